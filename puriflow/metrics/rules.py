"""What makes an image right that a random defence was asked about several times."""

from typing import Literal

# first: draw 0; average: the mean over draws; worst: every draw; majority: most draws; mean-logits:
# the mean of their logits; others: the mean over all draws but the first, for an attack that knows
# the first; attack: never broken by the attack's own verdict, which is not one of logits.
Rule = Literal["first", "average", "worst", "majority", "mean-logits", "others", "attack"]
