"""Batched augmentation on the training device: one operation a file, one composed warp for all of them."""
