"""Stage 1: fine-tuning of a verifier on exported reasoning traces. Read `trainer` first, then `encode` and `data`."""
