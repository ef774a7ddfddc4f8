"""Purifiers, one file a kind: `build` returns a module of images and their noise."""
