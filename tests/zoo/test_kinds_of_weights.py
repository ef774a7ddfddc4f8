"""Which of the weights in a file are read, and which numbers are weights at all."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from puriflow.errors import UserError
from puriflow.networks.ddpmpp import DDPMpp
from puriflow.zoo.weights import load_weights, read_state

SMALL = {"channels": 8, "channel_mult": (1, 2), "num_res_blocks": 1}


def state(value, dtype=torch.float32):
    return {
        "weight": torch.full((2, 2), value).to(dtype),
        "bias": torch.full((2,), value).to(dtype),
    }


LAST, AVERAGE = state(0.0), state(1.0)
CHECKPOINTS = {
    "BasicSR": {"params": LAST, "params_ema": AVERAGE},
    "timm": {"state_dict": LAST, "state_dict_ema": AVERAGE},
    "DeiT": {"model": LAST, "model_ema": AVERAGE, "args": argparse.Namespace(lr=0.1)},
    "YOLO": {"model": LAST, "ema": AVERAGE},
    "GAN": {"g": LAST, "g_ema": AVERAGE},
    "SWA": {"state_dict": LAST, "swa_state_dict": AVERAGE},
    "shadow": {"model": LAST, "ema": {"decay": 0.99, "shadow": AVERAGE}},
    "nested": {"ema": {"state_dict": AVERAGE}, "model": {"state_dict": LAST}},
    "DataParallel": {"model": LAST, "ema": {f"module.{k}": v for k, v in AVERAGE.items()}},
    "DeepMind": {"model_state_dict": AVERAGE, "unaveraged_model_state_dict": LAST},
    "no average": {"state_dict": AVERAGE, "state_dict_ema": None},
    "a decay": {"model": AVERAGE, "ema": 0.999},
    "options": {"model": AVERAGE, "ema_options": {"decay": 0.999}},
    "nothing yet": {"model": AVERAGE, "model_ema": {}},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_averaged_weights_come_before_the_last_ones(tmp_path, name):
    file, network = tmp_path / "w.pth", nn.Linear(2, 2)
    torch.save(CHECKPOINTS[name], file)
    load_weights(network, file)
    assert network.weight.unique().tolist() == [1]
    assert network.bias.unique().tolist() == [1]


def test_of_several_averages_none_is_chosen(tmp_path):
    torch.save({"ema_0.999": LAST, "ema_0.9999": AVERAGE, "model": LAST}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"several averages, ema_0\.999, ema_0\.9999: save one"):
        read_state(tmp_path / "w.pth")


def test_score_sde_s_average_is_read_without_conversion(tmp_path):
    torch.manual_seed(0)
    last, average, loaded = DDPMpp(**SMALL), DDPMpp(**SMALL), DDPMpp(**SMALL)
    shadow = [parameter.detach() for parameter in average.parameters()]
    checkpoint = {
        "model": {f"module.{k}": v for k, v in last.state_dict().items()},
        "ema": {"decay": 0.9999, "num_updates": 8, "shadow_params": shadow},
        "optimizer": {"state": {}},
        "step": 8,
    }
    torch.save(checkpoint, tmp_path / "w.pth")
    load_weights(loaded, tmp_path / "w.pth")
    for key, value in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    with pytest.raises(UserError, match=r"averages \d+ tensors, the network has 2"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds decay, num_updates, shadow_params, not"):
        read_state(tmp_path / "w.pth")  # where no network gives them their names
    checkpoint["ema"]["shadow_params"] = shadow[0]
    torch.save(checkpoint, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"ema\.shadow_params are no list of tensors"):
        load_weights(loaded, tmp_path / "w.pth")


WIDTHS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_floating_point_weights_of_any_width_are_loaded(tmp_path, dtype, ending):
    file, network = tmp_path / f"w.{ending}", nn.Linear(2, 2)
    (torch.save if ending == "pth" else save_file)(state(0.375, dtype), file)
    load_weights(network, file)
    assert network.weight.dtype == torch.float32
    assert network.weight.unique().tolist() == [0.375]


OTHERS = {
    torch.int8: r"int8 \(whole numbers\)",
    torch.uint8: r"uint8 \(whole numbers\)",
    torch.int64: r"int64 \(whole numbers\)",
    torch.bool: r"bool \(boolean\)",
    torch.float8_e4m3fn: r"float8_e4m3fn \(scaled floating-point\)",
    torch.float8_e5m2: r"float8_e5m2 \(scaled floating-point\)",
    torch.complex64: r"complex64 \(complex\)",
}


@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_other_numbers_are_no_weights(tmp_path, dtype, ending):
    file, network = tmp_path / f"w.{ending}", nn.Linear(2, 2)
    before = network.weight.clone()
    (torch.save if ending == "pth" else save_file)(state(1.0, dtype), file)
    said = rf"w\.{ending} does not fit Linear: weight is {OTHERS[dtype]}, but should be floating"
    with pytest.raises(UserError, match=said):
        load_weights(network, file)
    assert torch.equal(network.weight, before)


class Scaled(nn.Module):
    """A network with one number, and one that counts."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("count", torch.tensor(0))


def test_one_number_is_not_the_first_of_many(tmp_path):
    network, file = Scaled(), tmp_path / "w.pth"
    torch.save({"scale": torch.tensor([2.0]), "count": torch.tensor(3)}, file)
    load_weights(network, file)  # as torch before 0.4 had saved it
    assert network.scale == 2
    torch.save({"scale": torch.tensor([3.0, 4.0]), "count": torch.tensor(3)}, file)
    with pytest.raises(UserError, match=r"scale is \(2,\), but should be one number"):
        load_weights(network, file)
    torch.save({"scale": torch.tensor(2.0), "count": torch.tensor(2.5)}, file)
    with pytest.raises(UserError, match=r"count is float32 .*, but should be whole numbers"):
        load_weights(network, file)


class Options(argparse.Namespace):
    """What a script of somebody else's might have for its options."""


def test_a_script_s_options_are_allowed_by_name_and_nothing_else(tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"model": AVERAGE, "args": argparse.Namespace(lr=0.1, gpu=None)}, file)
    assert torch.equal(read_state(file)["weight"], AVERAGE["weight"])
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    for other in (Options(lr=0.1), argparse.Action(["-x"], "x")):
        torch.save({"model": AVERAGE, "args": other}, file)
        with pytest.raises(UserError, match=r"asks for .*, which is no tensor and no container"):
            read_state(file)
    torch.save({"model": {**AVERAGE, "args": argparse.Namespace()}}, file)
    with pytest.raises(UserError, match="not a state dict of tensors"):
        read_state(file)
