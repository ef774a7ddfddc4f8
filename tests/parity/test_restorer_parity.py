import pytest
import torch

from puriflow.restorers.drln import DRLN
from puriflow.restorers.edsr import EDSR
from puriflow.restorers.esrgan import RRDBNet
from puriflow.restorers.mdsr import MDSR


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_edsr(fixture):
    f = fixture("edsr")
    sizes = {name: f.config[name] for name in ("n_feats", "n_resblocks", "res_scale")}
    net = EDSR(**sizes, scale=f.config["scale"][0])
    net.load_state_dict(f.weights(), strict=True)
    f.check("out.y", net(f["in.x"]))
    f.check("out.y_round", net(f["in.x_round"]))


def test_mdsr(fixture):
    f = fixture("mdsr")
    net = MDSR(
        n_feats=f.config["n_feats"],
        n_resblocks=f.config["n_resblocks"],
        scales=f.config["scale"],
    )
    net.load_state_dict(f.weights(), strict=True)
    for index, scale in enumerate(f.config["scale"]):
        net.scale = scale
        f.check(f"out.y_{index}", net(f["in.x"]))
    net.scale = 2
    f.check("out.y_round", net(f["in.x_round"]))


def test_drln(fixture):
    f = fixture("drln")
    net = DRLN(scale=2)
    net.load_state_dict(f.weights(), strict=True)
    f.check("out.y", net(f["in.x"]))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_rrdbnet(fixture, scale):
    f = fixture(f"rrdbnet-x{scale}")
    sizes = {name: f.config[name] for name in ("num_feat", "num_block", "num_grow_ch")}
    net = RRDBNet(**sizes, scale=scale)
    net.load_state_dict(f.weights(), strict=True)
    f.check("out.y", net(f["in.x"]))
