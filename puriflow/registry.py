"""The registry of parts: families, their kinds, and the parts that a track names.

A *kind* is the name of a module that defines `build`, in the package of its family: `kind: esrgan`
under `restorers` is `puriflow/restorers/esrgan.py`, and the options of the entry are the keyword
arguments of its `build`. So a new part is one file and one entry. A part from outside is a module
by its dotted name, `kind: mypackage.mymodule`, or an entry point of an installed package in the
group `puriflow.restorers`. Kinds, options and the values that these take (puriflow.options) are
read from the source as text (puriflow.kinds): looking a part up imports no torch, only building it
does.
"""

import importlib
import inspect
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from puriflow.errors import UserError, theirs, unknown
from puriflow.kinds import Kind, installed_kinds, module_kind, own_kinds
from puriflow.options import OBJECT, Values, check_together, shown, values_of
from puriflow.renames import KINDS_GIVEN, KINDS_RENAMED, OPTIONS_GIVEN, OPTIONS_RENAMED
from puriflow.sources import file_of, is_library, top_of
from puriflow.weight_files import Weights

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
NONE = "none"  # in place of a part's name: the stage is left out
DETERMINISTIC = "deterministic"  # what a record says of a part that computes otherwise
NETWORK = "network"  # an option that is a part itself: a purifier's diffusion network
# All such options with the role of what they name.
INNER = {NETWORK: NETWORK, "classifier": "classifier", "perturbations": NETWORK}


@dataclass(frozen=True)
class Family:
    """A family of parts."""

    section: str  # of the configuration; also the package of the kinds, `puriflow.<section>`
    roles: tuple[str, ...]  # what chains, results and commands call a member


FAMILIES = (
    Family("datasets", ("dataset",)),
    Family("attacks", ("attack",)),
    Family("restorers", ("restorer",)),
    Family("networks", (NETWORK, "denoiser")),
    Family("purifiers", ("purifier",)),
    Family("classifiers", ("classifier",)),
    Family("features", ("features",)),
)


def family_of(role: str) -> Family:
    """The family of a role."""
    return _family("role", role, {role: family for family in FAMILIES for role in family.roles})


def family_named(section: str) -> Family:
    """The family of a section of the configuration."""
    return _family("family", section, {family.section: family for family in FAMILIES})


def _family(what: str, name: str, known: Mapping[str, Family]) -> Family:
    if name not in known:
        raise unknown(what, name, known)
    return known[name]


@cache
def kinds(section: str) -> dict[str, Kind]:
    """The kinds of a family by name, as timm's `list_models` lists models.

    Its own ones, and those of installed packages. A name that several give is broken.
    """
    found = {kind.name: kind for kind in own_kinds(section)}
    for kind in installed_kinds(section):
        if (other := found.setdefault(kind.name, kind)) != kind:
            both = f"{other.module} and the entry point of {kind.module}"
            why = f"this is the name of {both}: name one by its module, or uninstall one"
            found[kind.name] = replace(other, broken=why)
    return found


def kind_named(section: str, name: str) -> Kind:
    """A kind of a family by its name, or one from outside by its module.

    Raises:
        KeyError: the name is neither.
        UserError: there is no such module, or what is named is broken.
    """
    known = kinds(section)
    if name not in known and "." in name:
        return module_kind(name, name)
    if (broken := known[name].broken) is not None:
        raise UserError(broken)
    return known[name]


@dataclass(frozen=True)
class Part:
    """What serves a role: a kind with its options, checked but not built.

    Attributes:
        options: of its `build`, as the configuration says them, without `weights` and `INNER`.
        inner: the parts that it asks, by the option that names them.
        weights: the file that it loads, where it names one.
        deterministic: whether it computes with the same kernels each time; see `puriflow.kernels`.
    """

    role: str
    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inner: Mapping[str, "Part"] = field(default_factory=dict)
    weights: Weights | None = None
    deterministic: bool = True

    @property
    def network(self) -> "Part | None":
        """The diffusion network that it asks, where it has one."""
        return self.inner.get(NETWORK)

    @property
    def known(self) -> Kind:
        """What its kind is."""
        return kind_named(family_of(self.role).section, self.kind)

    @property
    def module(self) -> str:
        return self.known.module

    def parts(self) -> Iterator["Part"]:
        """It, and those in it."""
        yield self
        for part in self.inner.values():
            yield from part.parts()

    def modules(self) -> list[str]:
        """Names of the modules that build it, with those of objects that options name.

        Not those of a library's objects, whose code changes with its version alone.
        """
        return [m for part in self.parts() for m in (part.module, *part._objects())]

    def _objects(self) -> Iterator[str]:
        for option, annotation in self.known.declared.items():
            if annotation == OBJECT and option in self.options:
                module = self.options[option].partition(":")[0]
                file = file_of(module)
                if file is not None and not is_library(file):
                    yield module

    def files(self) -> list[Weights]:
        """The files of weights that it loads."""
        return [part.weights for part in self.parts() if part.weights is not None]

    def entry(self) -> dict[str, Any]:
        """Kind and options as plain data: what the configuration says, inner parts put in place.

        Weights go by the file's name: a folder says nothing of what is in them.
        """
        inner = {option: part.entry() for option, part in self.inner.items()}
        weights = {} if self.weights is None else {"weights": self.weights.label}
        again = {} if self.deterministic else {DETERMINISTIC: False}
        return {"kind": self.kind, **again, **self.options, **weights, **inner}

    def untrained(self) -> "Part":
        """The same before its training: without weights, however it computes later."""
        options = {o: value for o, value in self.options.items() if o != "precision"}
        return replace(self, weights=None, options=options, deterministic=True)

    def value(self, option: str) -> Any:
        """An option: as the configuration says it, or else its plain default, or None."""
        return self.entry().get(option, self.known.defaults.get(option))

    def complete(self) -> dict[str, Any]:
        """`entry` with the defaults of all options that it leaves out, for the record."""
        with self._explained():
            signature = inspect.signature(importlib.import_module(self.module).build)
        defaults = {
            name: option.default
            for name, option in signature.parameters.items()
            if option.default is not option.empty
        }
        inner = {option: part.complete() for option, part in self.inner.items()}
        return {"kind": self.kind, **defaults, **self.entry(), **inner}

    def build(self) -> Any:
        """The part itself: as a module in evaluation mode, its parameters constants.

        Raises:
            UserError: an option has a value that its kind does not take, or weights are not here,
                or are not what is published.
        """
        from puriflow.compute import building, frozen  # numpy, which a look-up does not need

        given: dict[str, Any] = dict(self.options)
        if self.weights is not None:
            self.weights.check()
            given["weights"] = str(self.weights.file)
        elif "weights" in self.known.options:
            given["weights"] = None
        with self._explained():
            function = importlib.import_module(self.module).build
            given = _validated(function, given, self.where)
        given |= {option: part.build() for option, part in self.inner.items()}
        loads = self.weights is not None and self.known.is_own
        with self._explained(), building(loads=loads):
            built = frozen(function(**given))
        log.debug(f"built {self.where}, kind {self.kind}")
        if built is None:
            raise UserError(f"{self.where}: `build` of {self.module} returns nothing")
        return built

    @property
    def where(self) -> str:
        """Where the configuration says it."""
        return f"config {family_of(self.role).section}.{self.name}"

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn what building raises into a UserError; of its own, only what says what is wrong."""
        try:
            yield
        except (ValueError, OSError) as error:
            raise UserError(f"{self.where}: {error}") from error
        except Exception as error:
            if isinstance(error, UserError) or self.known.is_own:
                raise
            raise theirs(error, self.where, top_of(self.module)) from error


Parts = Mapping[str, Part]  # by role; a role that is `none` is not in it


def part_of(role: str, name: str, entry: Mapping[str, Any]) -> Part:
    """The part of an entry that says all itself: kind, options, and inner parts as entries."""
    check(role, name, entry)
    inner, options = split(entry)
    weights = entry.get("weights")
    return Part(
        role,
        name,
        entry["kind"],
        options,
        inner={option: part_of(INNER[option], name, one) for option, one in inner.items()},
        weights=None if weights is None else Weights(str(weights), Path(weights)),
    )


def split(entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an entry says of inner parts, and its plain options."""
    inner = {option: entry[option] for option in INNER if entry.get(option) is not None}
    return inner, {k: v for k, v in entry.items() if k not in ("kind", "weights", *INNER)}


def check(role: str, name: str, entry: Mapping[str, Any]) -> None:
    """Check the kind and the options of an entry, as far as its module's text says what they are.

    Raises:
        UserError: an unknown kind or option, one that is missing, or a value that it does not take.
    """
    section = family_of(role).section
    where = f"config {section}.{name}"
    known = kinds(section)
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is {shown(entry)}, but must be a kind with its options")
    if "kind" not in entry:
        raise UserError(f"{where}: no kind given; known are {', '.join(known)}")
    kind = entry["kind"]
    if not isinstance(kind, str):
        raise UserError(f"{where}: kind is {shown(kind)}, but must be one of {', '.join(known)}")
    if kind in KINDS_RENAMED.get(section, {}):
        new = f"{KINDS_RENAMED[section][kind]!r}{KINDS_GIVEN.get(kind, '')}"
        raise UserError(f"{where}: kind {kind!r} is now {new}")
    if kind not in known and "." not in kind:
        raise unknown(f"kind of {section} (in {where})", kind, known)
    try:
        found = kind_named(section, kind)
    except UserError as error:
        raise UserError(f"{where}: kind {kind!r}: {error}") from None
    options = found.options
    for given in map(str, entry):
        if given != "kind" and given not in options:
            if new := OPTIONS_RENAMED.get(section, {}).get(kind, {}).get(given):
                now = repr(new) + OPTIONS_GIVEN.get(new, "")
                raise UserError(f"{where}: option {given!r} of {kind} is now {now}")
            raise unknown(f"option of {kind} (in {where})", given, options)
    said = {key for key, value in entry.items() if key not in INNER or value is not None}
    missing = [option for option, needed in options.items() if needed and option not in said]
    if missing:
        raise UserError(f"{where}: {kind} needs {', '.join(missing)}")
    for option, annotation in found.declared.items():
        values = values_of(annotation)
        if values is not None and option in entry and option not in INNER:
            values.checked(entry[option], option, where)
    try:
        check_together(found.declared, {**found.defaults, **entry})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _validated(function: Any, given: dict[str, Any], where: str) -> dict[str, Any]:
    """Options checked by the types that `build` declares, so that its own errors are its own."""
    declared = {
        name: option.annotation
        for name, option in inspect.signature(function, eval_str=True).parameters.items()
    }
    for name in given:
        if declared[name] is inspect.Parameter.empty:  # its author asks for no check
            declared[name] = Any
    return {n: Values(declared[n]).checked(value, n, where) for n, value in given.items()}
