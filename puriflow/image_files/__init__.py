"""Purifying image files: files and arrays of several formats and any size, without the workflow."""
