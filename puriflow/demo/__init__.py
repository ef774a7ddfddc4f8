"""One image through an attack and a defence, step by step, on a page of this machine's own."""

BEHIND_RESULTS = False
