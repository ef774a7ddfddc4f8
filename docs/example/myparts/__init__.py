"""Parts of one's own for PuriFlow: a restorer and an attack."""
