"""Training of the embedded vision-language models, bases and verifiers, on drawn examples. Read `loop` first."""
