"""The stages of the chain, one file each; every one is a `puriflow` command and a rule."""
