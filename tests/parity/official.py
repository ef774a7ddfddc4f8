"""Where the parity fixtures are, and the small classifier of their attacks."""

from pathlib import Path

from torch import nn
from torch.nn import functional as F

FIXTURES = Path(__file__).parents[3] / "shared" / "parity"


class TinyClassifier(nn.Module):
    """The fixtures' own, of the attacks' items (see their notes)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(F.silu(self.conv2(F.silu(self.conv1(x)))).mean((2, 3)))
