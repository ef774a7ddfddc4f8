"""Restorers, the initialisation of diffusion, one file a kind: `build` returns a module."""
