"""Finding a part by its kind: a kind is the name of a module that defines `build`.

`kind: esrgan` under `restorers` is `puriflow/restorers/esrgan.py`, and the options of the entry are
the keyword arguments of its `build`. So a new part is one file and one config entry. Kinds and
options are read from the source as text: checking a configuration imports no torch.
"""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from puriflow.errors import Problem, unknown

# The section of the configuration, and the package that holds its kinds.
FAMILIES = {
    "datasets": "images",
    "attacks": "attacks",
    "restorers": "restorers",
    "networks": "diffusion",
    "purifiers": "purifiers",
    "classifiers": "classifiers",
    "features": "features",
}


@cache
def kinds(family: str) -> dict[str, tuple[dict[str, bool], str]]:
    """The kinds of a family: name to (options and whether each must be given, module name)."""
    package = FAMILIES[family]
    found = {}
    for file in sorted((Path(__file__).parent / package).glob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == "build":
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                options = {argument.arg: default is None for argument, default in pairs}
                name = file.stem.replace("_", "-")
                found[name] = (options, f"puriflow.{package}.{file.stem}")
    return found


def check(family: str, name: str, spec: dict[str, Any]) -> None:
    """Check the kind and the option names of an entry.

    Raises:
        Problem: an unknown kind or option, or an option that is missing.
    """
    where = f"config {family}.{name}"
    if "kind" not in spec:
        raise Problem(f"{where}: no kind given; known are {', '.join(kinds(family))}")
    if spec["kind"] not in kinds(family):
        raise unknown(f"kind of {family} (in {where})", spec["kind"], kinds(family))
    options, _ = kinds(family)[spec["kind"]]
    for given in spec:
        if given != "kind" and given not in options:
            raise unknown(f"option of {spec['kind']} (in {where})", given, options)
    missing = [option for option, needed in options.items() if needed and option not in spec]
    if missing:
        raise Problem(f"{where}: {spec['kind']} needs {', '.join(missing)}")


def module_of(family: str, spec: dict[str, Any]) -> str:
    """The name of the module that builds an entry."""
    return kinds(family)[spec["kind"]][1]


def modules_of(family: str, spec: dict[str, Any]) -> list[str]:
    """The modules that build an entry and the network in it."""
    network = spec.get("network")
    inner = [] if network is None else [module_of("networks", network)]
    return [module_of(family, spec), *inner]


def modules_of_defence(specs: dict[str, dict[str, Any] | None]) -> list[str]:
    """The modules that build a defence's parts; see `Config.defence`."""
    present = {role: spec for role, spec in specs.items() if spec is not None}
    return [module for role, spec in present.items() for module in modules_of(f"{role}s", spec)]


def complete(family: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A specification with the defaults of all options that it leaves out, for the record."""
    build = importlib.import_module(module_of(family, spec)).build
    defaults = {
        name: option.default
        for name, option in inspect.signature(build).parameters.items()
        if option.default is not option.empty
    }
    network = spec.get("network")
    inner = {} if network is None else {"network": complete("networks", network)}
    return {**defaults, **spec, **inner}


def complete_defence(specs: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """`complete` of a defence's parts; see `Config.defence`."""
    return {
        role: None if spec is None else complete(f"{role}s", spec) for role, spec in specs.items()
    }


def build(family: str, name: str, spec: dict[str, Any]) -> Any:
    """Build the part that an entry of the configuration describes.

    Raises:
        Problem: as `check`, or what the part itself finds wrong with its options.
    """
    check(family, name, spec)
    options = {key: value for key, value in spec.items() if key != "kind"}
    module = importlib.import_module(module_of(family, spec))
    try:
        return module.build(**options)
    except (TypeError, ValueError) as error:
        raise Problem(f"config {family}.{name}: {error}") from error
