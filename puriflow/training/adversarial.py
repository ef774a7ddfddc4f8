"""Train a super-resolution net against a discriminator, as ESRGAN and Real-ESRGAN were.

The generator's loss is L1, plus a feature loss, plus the adversarial loss: what it takes to pass
for a photograph (Ledig et al. 2017; Wang et al. 2018, 2021). Generator and discriminator move at
every step, by one optimiser: the generator's loss sees the discriminator's parameters as constants,
and the other way round.
"""

from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from puriflow.features.layers import Features
from puriflow.options import Channels, NonNegative
from puriflow.registry import part_of


class Adversarial(BaseModel, extra="forbid", frozen=True):
    """The second and third term of the generator's loss."""

    features: dict[str, Any]  # kind and options of a feature network, and the layers to compare
    feature_weight: NonNegative = 0.1  # of the feature loss
    weight: NonNegative = 0.005  # of the adversarial loss, ESRGAN's
    width: Channels = 16  # channels of the discriminator's first layer


class Discriminator(nn.Module):
    """Real-ESRGAN's U-Net with spectral normalisation, two levels deep: a verdict a pixel."""

    def __init__(self, width: int):
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False))

        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down1 = conv(width, 2 * width, 2)
        self.down2 = conv(2 * width, 4 * width, 2)
        self.up1 = conv(4 * width, 2 * width)
        self.up2 = conv(2 * width, width)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, 1, H, W): positive for a photograph."""
        a = F.leaky_relu(self.first(images), 0.2)
        b = F.leaky_relu(self.down1(a), 0.2)
        c = F.leaky_relu(self.down2(b), 0.2)
        b = b + F.leaky_relu(self.up1(_resized(c, b)), 0.2)
        a = a + F.leaky_relu(self.up2(_resized(b, a)), 0.2)
        return self.last(a)


def _resized(x: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(x, size=to.shape[-2:], mode="bilinear")


class GAN(nn.Module):
    """A generator and its discriminator; called with pairs of [0, 1] images, it gives the loss."""

    def __init__(self, generator: nn.Module, terms: Adversarial):
        super().__init__()
        self.generator = generator
        self.discriminator = Discriminator(terms.width)
        self.terms = terms
        features: Features = part_of("features", "features", terms.features).build()
        self._features = [features]  # in a list: not part of what is trained, averaged and saved

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """The sum of both losses, of photographs (N, 3, H, W) and (N, 3, scale H, scale W)."""
        sr = self.generator(low).float()
        frozen = {k: v.detach() for k, v in self.discriminator.named_parameters()}
        seen = functional_call(self.discriminator, frozen, (sr,)).float()
        generator_loss = (
            F.l1_loss(sr, high)
            + self.terms.feature_weight * self._feature_loss(sr, high)
            + self.terms.weight * F.softplus(-seen).mean()
        )
        real = self.discriminator(high).float()
        fake = self.discriminator(sr.detach()).float()
        return generator_loss + F.softplus(-real).mean() + F.softplus(fake).mean()

    def _feature_loss(self, sr: Tensor, high: Tensor) -> Tensor:
        """Mean over layers of the L1 distance of feature maps, in units of the maps' own size."""
        features = self._features[0].to(high.device)
        with torch.autocast(high.device.type, enabled=False):
            ours = features(sr)
            with torch.no_grad():
                theirs = features(high)
            distances = [
                F.l1_loss(ours[name], theirs[name]) / theirs[name].abs().mean() for name in theirs
            ]
        return torch.stack(distances).mean()
