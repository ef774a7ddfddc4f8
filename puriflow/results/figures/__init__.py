"""The figures of the paper, one file a kind: what is computed for each."""
