"""What is measured of logits and images."""
