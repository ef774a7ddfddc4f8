"""Data sets, one file a kind: each `build` returns `Samples`."""
