"""What made a result: hashes of the code and the weights behind it, versions, and the machine.

The code behind a result is that of its own module, of the parts that it runs, and of whatever those
import from this package, or a part from outside from its own one. It is read as text, and comments
and docstrings do not count. Nor does a module that says `BEHIND_RESULTS = False`: how results are
kept, shown and started, not what they are. The style file of the plots counts with the module that
reads it. A change elsewhere reruns nothing.
"""

import ast
import hashlib
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puriflow import MODULES, sources
from puriflow.atomic import digest
from puriflow.checksums import file_hash, remembered
from puriflow.errors import UserError
from puriflow.sources import OWN, constants, file_of, syntax_tree, top_of, with_packages

if TYPE_CHECKING:
    import torch

    from puriflow.registry import Part

BEHIND_RESULTS = False
ALWAYS = ("puriflow", "numpy", "zarr")  # of whatever is stored
LAZY = {f"{OWN}.{name}": module for name, module in MODULES.items()}


def code_hash(*modules: str) -> str:
    """sha256 over the code of modules and all that they import from puriflow and their own package.

    Raises:
        UserError: a module is not there, or cannot be read as Python.
    """
    hashed = hashlib.sha256()
    for module, source in sorted(_behind(modules).items()):
        hashed.update(f"{module}\n{source.code}\n".encode())
    return hashed.hexdigest()


def versions(*modules: str) -> dict[str, str]:
    """Versions of the distributions that modules, and all the code that counts with them, use.

    A module names as its `PACKAGE` what it needs in a way that no import shows. A package that only
    lies in a folder has no version.
    """
    behind = _behind(modules)
    installed = packages_distributions()
    tops = {*map(top_of, behind), *(name for source in behind.values() for name in source.others)}
    used = {package for top in tops for package in installed.get(top, ())}
    constants = (source.constants.get("PACKAGE") for source in behind.values())
    named = {package for package in constants if isinstance(package, str)}
    found = {}
    for package in sorted({*ALWAYS, *used, *named}):
        with suppress(PackageNotFoundError, ValueError):  # outside, the name may mean anything
            found[package] = version(package)
    return found


def weights_hashes(parts: Iterable["Part"]) -> dict[str, str]:
    """sha256 of every file of weights that is here, by the file's name or `zoo:NAME`.

    Not by its path: the same file elsewhere makes the same. Of files that share a name, each has
    the first digits of its hash there as well.
    """
    files = [weights for part in parts for weights in part.files() if weights.file.is_file()]
    found = sorted({(weights.label, file_hash(weights.file)) for weights in files})
    labels = [label for label, _ in found]
    return {
        label if labels.count(label) == 1 else f"{label} ({digits[:8]})": digits
        for label, digits in found
    }


def identified(part: "Part") -> dict[str, Any]:
    """A part's entry that says which weights it loads in place of where they are."""
    entry = part.entry()
    if part.weights is not None:
        entry["weights"] = part.weights.identity
    return entry | {option: identified(inner) for option, inner in part.inner.items()}


def data_hash(dataset: "Part") -> str | None:
    """The fingerprint of a data set as its files are now.

    None if they are not here, or its kind says that they are `PUBLISHED` and takes no others.
    """
    if _read([dataset.module])[0].constants.get("PUBLISHED"):
        return None
    try:
        return dataset.build().fingerprint
    except UserError:
        return None


def machine(device: "torch.device | None" = None) -> dict[str, Any]:
    """What may change the last bits of a result, though the result is the same.

    Without a device, torch computes nothing, and is not imported.
    """
    found = {"architecture": platform.machine(), "device": "cpu"}
    if device is None:
        return found
    import torch

    from puriflow import kernels  # with torch

    if kernels.compiling:
        found["compiled"] = "diffusion networks"
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return found | {
        "processor": processor(),  # MKL takes other ways on another maker's
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,  # with the build: 2.13.0+cpu
        **libraries(torch.__config__.show()),
    }


def processor() -> str:
    """The processor in its maker's words, where the system says them."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def libraries(build: str) -> dict[str, str]:
    """The libraries that multiply matrices and convolve, out of what torch says of its build."""
    said = {
        "mkl": r"Math Kernel Library Version (\S+)",
        "mkldnn": r"MKL-DNN v(\S+)",
        "blas": r"BLAS_INFO=(\w+)",
    }
    found = {name: re.search(pattern, build) for name, pattern in said.items()}
    return {name: match[1] for name, match in found.items() if match}


@dataclass(frozen=True)
class Source:
    """A module of this package, or of another that is somebody's own, read as text."""

    code: str  # hashes of what it does, and of its style file
    ours: frozenset[str]  # modules of this and its own package that are run when it is, or called
    others: frozenset[str]  # what it imports from elsewhere, by the first part of its name
    constants: Mapping[str, Any]  # plain values that are given to names at its top

    @property
    def counts(self) -> bool:
        """Whether it is behind results."""
        return self.constants.get("BEHIND_RESULTS", True)


def _behind(modules: Iterable[str]) -> dict[str, Source]:
    """Modules with all of this and their own package that they import and is behind results."""
    found: dict[str, Source] = {}
    waiting = {name for module in modules for name in (module, *_there(with_packages(module)))}
    while new := sorted(waiting - found.keys()):
        found |= dict(zip(new, _read(new), strict=True))
        waiting = {name for one in new if found[one].counts for name in found[one].ours}
    return {module: source for module, source in found.items() if source.counts}


def _there(modules: Iterable[str]) -> Iterator[str]:
    """Those of names that are modules: others are of what is in one, or packages without code."""
    return (module for module in modules if file_of(module) is not None)


def _file(module: str) -> Path:
    if (file := file_of(module)) is None:
        raise UserError(f"the module {module} is not there any more")
    return file


def _read(modules: Sequence[str]) -> list[Source]:
    """Modules as they are now; what is known of a file is not read again (puriflow.checksums)."""
    files = [_file(module) for module in modules]
    said = remembered(files, f"source-{_reader()}", lambda paths: [_said(Path(p)) for p in paths])
    found = zip(modules, files, said, strict=True)
    return [_source(module, file, one) for module, file, one in found]


@cache
def _reader() -> str:
    """What tells this way of reading a module from others: the code that does it."""
    return "-".join(digest(file, "sha256")[:16] for file in (__file__, sources.__file__))


def _said(file: Path) -> dict[str, Any]:
    """What a module says, as plain data; see `Source`."""
    tree = syntax_tree(file)
    code = hashlib.sha256(meaning(tree).encode()).hexdigest()
    return {"code": code, "imports": sorted(set(_imports(tree))), "constants": constants(tree)}


def _source(module: str, file: Path, said: Mapping[str, Any]) -> Source:
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names, style = _absolute(said["imports"], package), file.with_suffix(".mplstyle")
    followed = {OWN, top_of(module)}
    inner = {m for name in names if top_of(name) in followed for m in with_packages(name)}
    return Source(
        code=said["code"] + (file_hash(style) if style.is_file() else ""),
        ours=frozenset(_there(inner)),
        others=frozenset(map(top_of, names)),
        constants=said["constants"],
    )


def _absolute(imports: Iterable[str], package: str) -> list[str]:
    """The names of what a module in a package imports; of `puriflow.Defence`, the module of it."""
    found = []
    for name in imports:
        with suppress(ImportError):  # of a name that is above the outermost package
            full = resolve_name(name, package)
            found.append(LAZY.get(full, full))
    return found


def meaning(node: object) -> str:
    """A syntax tree as text that is the same in every version of Python; without docstrings.

    `ast.dump` is not: 3.12 gave functions and classes a field `type_params`, 3.13 leaves empty
    fields out. Here a field that is empty, or a flag that is not set, never counts.
    """
    match node:
        case ast.Constant(value=value):  # without its `kind`: u"" is ""
            return ascii(value)  # `repr` goes by the version's Unicode
        case ast.JoinedStr(values=values):  # 3.12 ends some of them with an empty string
            pieces = [piece for piece in values if getattr(piece, "value", None) != ""]
            return f"JoinedStr({meaning(pieces)})"
        case ast.AST():
            fields = (f"{n}={meaning(v)}" for n, v in ast.iter_fields(node) if not _is_empty(v))
            return f"{type(node).__name__}({', '.join(sorted(fields))})"
        case list():
            return f"[{', '.join(meaning(item) for item in node if not _is_text(item))}]"
    return ascii(node)


def _is_empty(field: object) -> bool:
    return field is None or field == [] or (type(field) is int and field == 0)


def _is_text(statement: object) -> bool:
    """Whether a statement is a string and nothing else: a docstring, in most cases."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names that are imported, also inside functions, but not for type checkers alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting.extend(node.orelse)
                continue
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=module, level=level):
                package = "." * level + (module or "")
                dot = "." if module else ""
                yield package
                yield from (f"{package}{dot}{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))
