"""What makes an image right that a random defence was asked about several times."""

from typing import Literal

# By the answers to an image, clean or attacked. first: draw 0; average: the mean over draws; worst:
# every draw; majority: the class of most draws, of a tie the first; mean-logits: the mean of their
# logits; others: the mean over all draws but the first, for an attack that knows the first.
OfAnswers = Literal["first", "average", "worst", "majority", "mean-logits", "others"]

# attack: the attack never succeeded, by its own verdict, which there is of attacked images only.
Rule = Literal[OfAnswers, "attack"]

# attack-on-clean: the same verdict on the clean image, which is measured beside it.
Measured = Literal[Rule, "attack-on-clean"]
