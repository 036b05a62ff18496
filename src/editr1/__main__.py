"""`python -m editr1` is `editr1`."""

from editr1.cli.main import run

run()
