"""What one colour means in every picture."""

# The first two are Okabe and Ito's, the others Tol's, which
# colour-blind readers tell apart and which are dark enough for text.
STANDARD, ROBUST = "#0072B2", "#D55E00"  # accuracies
RIGHT, WRONG = "#117733", "#AA4499"  # answers
SQUARED_ERROR, CROSS_ENTROPY = "#000000", "#882255"
PAPER = "#222222"  # the paper's own numbers
AIDE = "#777777"  # what belongs to no line
