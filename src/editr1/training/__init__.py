"""Training: the embedded models, and (in later stages) SFT, GCPO and the editor's RL."""
