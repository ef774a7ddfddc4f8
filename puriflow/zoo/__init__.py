"""The zoo: official checkpoints, how they get here, and how weights are loaded."""
