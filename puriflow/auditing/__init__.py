"""Whether to believe an evaluation: checks of an attack on a defence, each with its cure."""
