"""What purifiers are made of: noise-predicting networks and the SDEs they serve."""
