"""Where the parity fixtures are, and the networks that several of them have."""

from pathlib import Path

from torch import nn
from torch.nn import functional as F

from puriflow.networks.edm import EDMPrecond, SongUNet

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


def edm_of(fixture, prefix=""):
    """The fixture's EDM with its weights, which may have a prefix there."""
    config = fixture.config["edm"]
    network = EDMPrecond(
        SongUNet(
            image_size=config["img_resolution"],
            channels=config["model_channels"],
            channel_mult=config["channel_mult"],
            num_blocks=config["num_blocks"],
            attn_resolutions=config["attn_resolutions"],
            augment_dim=config["augment_dim"],
        )
    )
    own = {k.removeprefix(prefix): w for k, w in fixture.weights().items() if k.startswith(prefix)}
    network.load_state_dict(own, strict=True)
    return network.eval().requires_grad_(False)
