"""Attacks, one file a kind: each `build` returns an `Attack` (base.py) on a batch of images."""
