"""Diffusion networks, one file a kind: `build` returns a `Denoiser`."""
