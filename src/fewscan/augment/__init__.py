"""Augmentation: batched, on the data's device, one grid for all that lies on the pixels."""
