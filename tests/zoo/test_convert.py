"""Converting official files: EDM's pickles, score_sde's averages, ESRGAN's older keys."""

import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from puriflow.errors import UserError
from puriflow.networks.ddpmpp import DDPMpp
from puriflow.networks.edm import EDMPrecond, SongUNet
from puriflow.restorers.esrgan import RRDBNet
from puriflow.zoo.convert import convert
from puriflow.zoo.weights import load_weights

SMALL = {"channels": 8, "channel_mult": (1, 2), "num_blocks": 1}
PART = {"kind": "edm", **SMALL}
RRDB = {"scale": 4, "num_feat": 8, "num_block": 2, "num_grow_ch": 4}
ESRGAN = {"kind": "esrgan", **RRDB}


@pytest.fixture
def persistence(monkeypatch):
    """A module by the name of EDM's, which pickles modules the way EDM's does."""

    def reconstruct(meta):
        raise AssertionError("the source in the pickle would be run here")

    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = sys.modules["torch_utils.persistence"]
    reconstruct.__module__ = module.__name__
    reconstruct.__qualname__ = reconstruct.__name__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = reconstruct

    class EasyDict(dict):
        pass

    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    sys.modules["dnnlib.util"].EasyDict = EasyDict

    def meta(network):
        state = dict(network.__dict__)
        # EDM keeps numpy's numbers, as attributes and among the arguments
        state["_init_kwargs"] = EasyDict(img_resolution=32, init_weight=np.sqrt(0.2))
        state["skip_scale"] = np.sqrt(0.5)
        state["_modules"] = wrapped(network)
        return {"type": "class", "version": 6, "module_src": "import os", "state": state}

    def wrapped(network):
        children = OrderedDict()
        for name, child in network._modules.items():
            children[name] = Persistent(child)
            if isinstance(child, nn.ModuleDict):  # a class of torch: pickled as it is
                children[name] = nn.ModuleDict()
                children[name].__dict__["_modules"] = wrapped(child)
        return children

    class Persistent:
        def __init__(self, network):
            self.network = network

        def __reduce__(self):
            return reconstruct, (meta(self.network),)

    return Persistent


def edm_network():
    torch.manual_seed(0)
    network = EDMPrecond(SongUNet(**SMALL)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def test_edm_s_pickle_becomes_safetensors_without_running_it(persistence, tmp_path):
    network = edm_network()
    file, out = tmp_path / "edm.pkl", tmp_path / "edm.safetensors"

    with file.open("wb") as opened:
        pickle.dump({"ema": persistence(network), "dataset_kwargs": {"path": "cifar"}}, opened)
    convert("edm", file, out, "networks", PART)
    other = EDMPrecond(SongUNet(**SMALL))
    load_weights(other, out)
    x, sigma = torch.randn(1, 3, 32, 32), torch.tensor(0.5)
    with torch.no_grad():
        assert torch.equal(other.eval()(x, sigma), network(x, sigma))


class Evil:
    """Would write a file when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch ran.txt",)


class EvilStorage:
    """Hides the same in the bytes that torch's own storages are kept in."""

    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(Evil()),)


# Asks for a function by way of another one: getattr(os, "system")
EVIL_ATTRIBUTE = b"cbuiltins\ngetattr\n(cos\nsystem\ntR."


# Changes what torch itself would do after this pickle was refused: BUILD on a function.
EVIL_CHANGE = b"ctorch._utils\n_rebuild_tensor_v2\n(N(dS'__defaults__'\n(I1\ntstb" + EVIL_ATTRIBUTE


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"ema": Evil()}), r"refused: it asks for posix\.system"),
        (pickle.dumps({"ema": EvilStorage()}), r"refused: the bytes of a tensor"),
        (EVIL_ATTRIBUTE, r"refused: it asks for builtins\.getattr"),
        (EVIL_CHANGE, r"refused: it changes a function"),
    ],
)
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.pkl"
    file.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        convert("edm", file, tmp_path / "out.safetensors", "networks", PART)
    assert "\n" not in str(caught.value)
    assert [f.name for f in tmp_path.iterdir()] == ["evil.pkl"]
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({})])
def test_a_file_that_is_no_network_is_named(tmp_path, data):
    file = tmp_path / "other.pkl"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"other\.pkl is not one of EDM's"):
        convert("edm", file, tmp_path / "out.safetensors", "networks", PART)


def test_weights_of_another_network_are_not_written(persistence, tmp_path):
    file, out = tmp_path / "edm.pkl", tmp_path / "edm.safetensors"
    with file.open("wb") as opened:
        pickle.dump({"ema": persistence(edm_network())}, opened)
    with pytest.raises(
        UserError, match=r"edm\.pkl does not fit edm: model\.dec.* is .*, but should"
    ):
        convert("edm", file, out, "networks", {**PART, "num_blocks": 2})
    assert not out.exists()


def test_score_sde_s_average_gets_its_names(tmp_path):
    small = {"channels": 8, "channel_mult": (1, 2), "num_res_blocks": 1}
    torch.manual_seed(0)
    last, average = DDPMpp(**small), DDPMpp(**small)
    checkpoint = {
        "model": {f"module.{k}": v for k, v in last.state_dict().items()},
        "ema": {"decay": 0.9999, "shadow_params": [p.detach() for p in average.parameters()]},
        "optimizer": {"state": {}},
        "step": 8,
    }
    file, out = tmp_path / "checkpoint_8.pth", tmp_path / "converted.safetensors"
    torch.save(checkpoint, file)
    convert("score-sde", file, out, "networks", {"kind": "ddpmpp", **small})
    loaded = DDPMpp(**small)
    load_weights(loaded, out)
    for key, value in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    with pytest.raises(UserError, match=r"averages \d+ tensors, the network has \d+"):
        convert(
            "score-sde", file, out, "networks", {"kind": "ddpmpp", **small, "num_res_blocks": 2}
        )
    torch.save({"model": {}}, file)
    with pytest.raises(UserError, match="no score_sde"):
        convert("score-sde", file, out, "networks", {"kind": "ddpmpp", **small})


def test_esrgan_s_older_keys_become_the_newer(tmp_path):
    torch.manual_seed(0)
    network = RRDBNet(**RRDB)
    older = {}
    for key, value in network.state_dict().items():
        key = key.replace("conv_body", "trunk_conv").replace("conv_up", "upconv")
        key = key.replace("conv_hr", "HRconv").replace("rdb", "RDB")
        older[key.replace("body.", "RRDB_trunk.")] = value
    assert "RRDB_trunk.1.RDB2.conv3.weight" in older
    file, out = tmp_path / "RRDB_ESRGAN_x4.pth", tmp_path / "new.safetensors"
    torch.save(older, file)
    convert("esrgan", file, out, "restorers", ESRGAN)
    loaded = RRDBNet(**RRDB)
    load_weights(loaded, out)
    assert torch.equal(loaded.body[1].rdb2.conv3.weight, network.body[1].rdb2.conv3.weight)


def test_an_unknown_converter_or_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'edm'"):
        convert("edn", tmp_path / "a", tmp_path / "b", "networks", PART)
    with pytest.raises(UserError, match="does not exist"):
        convert("edm", tmp_path / "a", tmp_path / "b", "networks", PART)
