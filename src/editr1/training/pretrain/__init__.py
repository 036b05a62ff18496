"""Pretraining of the embedded editors on stickers: autoencoder, latents, text encoders, flow matching.

Read `run` first, which has the stages in order; each is a file: `vae`, `latents`, `text`, `flow`.
"""
