"""What makes an image right that a random defence was asked about several times."""

from typing import Literal

# By the answers to an image, clean or attacked. first: draw 0; average: the mean over draws; worst:
# every draw; majority: the class of most draws, of a tie the first; mean-logits: the mean of their
# logits; others: the mean over all draws but the first, for an attack that knows the first.
OfAnswers = Literal["first", "average", "worst", "majority", "mean-logits", "others"]

# By the answers in the loop of an attack, to its points: the worst of the steps, for each rule.
InLoop = Literal["in-loop-average", "in-loop-majority", "in-loop-worst"]

# attack: the attack never succeeded, by its own verdict. There is that, as answers in the loop, of
# attacked images only.
Rule = Literal[OfAnswers, InLoop, "attack"]

# The same verdict on the clean image, and as many answers to it, which are measured beside them.
OnClean = Literal[
    "attack-on-clean",
    "in-loop-average-on-clean",
    "in-loop-majority-on-clean",
    "in-loop-worst-on-clean",
]
Measured = Literal[Rule, OnClean]
