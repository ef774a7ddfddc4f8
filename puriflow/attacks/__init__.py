"""Attacks, one file a kind: each `build` returns a function of victim, images, labels and noise."""
