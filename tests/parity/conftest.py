"""The parity fixtures: official networks' state dicts, inputs and outputs, as numbers only.

They lie beside a development checkout and are no part of the project: without them these tests are
skipped, and say so.
"""

import hashlib
import json
import math
import re
import zlib

import numpy as np
import pytest
import torch
from official import FIXTURES
from safetensors.torch import load_file


class Fixture:
    """One item: its configuration, tensors and official state dict."""

    def __init__(self, item: str):
        folder = FIXTURES / item
        self.meta = json.loads((folder / "meta.json").read_text())
        self.config = self.meta["config"]
        self.tensors = load_file(folder / "io.safetensors")
        stored = folder / "weights.safetensors"
        self._stored = load_file(stored) if stored.exists() else {}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def weights(self) -> dict[str, torch.Tensor]:
        """The state dict under its official keys, checked against its hash."""
        described = self.meta["weights"]
        state = {
            key: self._stored[key] if how["from"] == "file" else self._made(key, how["shape"])
            for key, how in described["keys"].items()
        }
        digest = hashlib.sha256()
        for key in sorted(state):
            digest.update(key.encode())
            digest.update(state[key].contiguous().numpy().tobytes())
        assert digest.hexdigest() == described["sha256"]
        return state

    def _made(self, key: str, shape: list[int]) -> torch.Tensor:
        """A tensor by the fixtures' recipe."""
        recipe = self.meta["weights"]["recipe"]
        last = key.split(".")[-1]
        if last == "num_batches_tracked":
            return torch.tensor(7)
        seed = (zlib.crc32(key.encode()) + recipe["seed"]) % 2**32
        u = np.random.RandomState(seed).random_sample(tuple(shape))
        s = 2 * u - 1
        if last == "running_var":
            values = 0.5 + u
        elif last == "running_mean":
            values = 0.2 * s
        elif len(shape) == 1 and last == "weight":
            values = 1 + 0.3 * s
        elif len(shape) <= 1:
            values = 0.1 * s
        else:
            gain = self._override(recipe["gain_overrides"], key, recipe["gain"])
            fan_in = shape[0] if last == "W" else int(np.prod(shape[1:]))
            values = s * gain * math.sqrt(3.0 / fan_in)
        values = values + self._override(recipe["offset_overrides"], key, 0)
        return torch.from_numpy(np.asarray(values).astype(np.float32))

    @staticmethod
    def _override(pairs: list, key: str, default: float) -> float:
        return next((value for pattern, value in pairs if re.search(pattern, key)), default)

    def check(self, name: str, got: torch.Tensor) -> None:
        """Compare with an expected output at the fixture's own tolerance."""
        expected = self.tensors[name]
        assert got.shape == expected.shape
        if not expected.is_floating_point():
            assert torch.equal(got, expected)
            return
        atol = self.meta["tensors"][name]["atol"]
        torch.testing.assert_close(got, expected, rtol=0, atol=atol)


@pytest.fixture(scope="session")
def fixture():
    """Opens a fixture by name, or skips the test."""

    def opened(item: str) -> Fixture:
        if not FIXTURES.is_dir():
            pytest.skip("the parity fixtures (shared/parity beside the checkout) are not here")
        return Fixture(item)

    return opened
