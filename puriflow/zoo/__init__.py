"""Weights: loading and saving them."""
