"""Classifiers, one file a kind: `build` returns a module from [0, 1] images to logits."""
