"""Pretraining of the embedded editors on stickers: autoencoder, latents, flow matching.

Read `run` first, which has the stages in order; each is a file: `vae`, `latents`, `flow`.
"""
