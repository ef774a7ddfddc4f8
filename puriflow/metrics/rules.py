"""What makes an image right that a random defence was asked about several times."""

from typing import Literal

# first: draw 0; average: the mean over draws; worst: every draw; majority: most draws; mean-logits:
# the mean of their logits; others: the mean over all draws but the first, for an attack that knows
# the first; attack: the attack never succeeded, by its own verdict, not by logits.
Rule = Literal["first", "average", "worst", "majority", "mean-logits", "others", "attack"]
