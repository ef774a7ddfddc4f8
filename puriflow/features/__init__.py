"""Feature networks, one file a kind: `build` returns a module from images to named feature maps."""
