"""Purifying images of one's own: files of several formats, any size, outside the workflow."""
