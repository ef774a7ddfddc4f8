"""The mathematics of diffusion: SDEs and schedules, denoisers, and recomputed gradients."""
