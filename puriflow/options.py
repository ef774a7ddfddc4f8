"""The values that options of parts take: what the annotations of `build` are made of.

An annotation is the one place that says which values an option has. They are those of YAML and
JSON, taken strictly: 4.0 is no whole number, "2" and true are no numbers, NaN and infinity are no
options; a whole number may stand for another number, and a list for a tuple. An annotation made
of the names here and of builtins is understood from a module's text, so that a track is checked
when it is loaded, without torch.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction as Ratio
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

from puriflow.errors import UserError, unknown

BEHIND_RESULTS = False
MOST_SEED = 2**32 - 1  # as numpy's RandomState takes it
MOST_LEVEL = 1000  # t' of the VP-SDE
# Of an attack in L2, on [0, 1]: the largest published one is 32.5 (Dong et al. 2018, 16/255 of each
# of 299 x 299 x 3 values), and 128 is 0.5 counted in 255ths.
MOST_EPS = 50
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def whole(low: int, high: int) -> Any:
    """Bounds of a whole number."""
    return Field(ge=low, le=high, description=f"a whole number from {low} to {high}")


def real(low: float, high: float, unit: str = "") -> Any:
    """Bounds of a number, and what it counts in."""
    return Field(ge=low, le=high, description=f"a number from {low:g} to {high:g}{unit}")


def listed(low: int, high: int, what: str) -> Any:
    """Bounds of the length of a list."""
    count = f"{low}" if low == high else f"{low} to {high}"
    return Field(min_length=low, max_length=high, description=f"a list of {count} {what}")


def _no_bool_or_float(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("not a whole number")
    return value


Whole = BeforeValidator(_no_bool_or_float)  # Literal[1] by itself takes 1.0 and true

# How often something is done, and how much of it there is. The bounds are far above what is ever
# published, and below what runs for years or fills the memory.
Count = Annotated[int, whole(1, 100_000)]  # iterations, draws, queries
Rounds = Annotated[int, whole(1, 1000)]
Timestep = Annotated[int, whole(1, 1000)]  # of the VP-SDE: a level t', or thousandths of its time
TimestepSpread = Annotated[int, whole(0, 999)]
TimestepIndex = TimestepSpread  # counted from 0, as networks are told; or so many of them
Stages = Annotated[
    Sequence[tuple[Timestep, Timestep, Rounds]],
    listed(1, 100, "stages, each [level, steps, times], whole numbers from 1 to 1000"),
]
Blocks = Annotated[int, whole(1, 1000)]  # of a network; also its depth, or factors of its width
Channels = Annotated[int, whole(1, 4096)]
EvenChannels = Annotated[
    int, Field(ge=4, le=4096, multiple_of=2, description="an even number from 4 to 4096")
]
Multiples = Annotated[
    Sequence[Annotated[int, whole(1, 64)]], listed(1, 10, "whole numbers from 1 to 64")
]
Resolutions = Annotated[
    Sequence[Annotated[int, whole(1, 4096)]], listed(0, 10, "whole numbers from 1 to 4096")
]
Classes = Annotated[int, whole(1, 100_000)]
# Of convolutions and products of matrices.
Precision = Literal["float32", "tf32", "float16", "bfloat16"]
Trained = Literal["float32", "bfloat16"]  # while a network is trained
Side = Annotated[int, whole(1, 4096)]  # pixels
Patch = Annotated[int, whole(1, 99)]  # pixels


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("must be odd")
    return size


Window = Annotated[  # pixels, with one in the middle
    int, Field(ge=3, le=99, description="an odd number from 3 to 99"), AfterValidator(_odd)
]
Scale = Annotated[int, whole(1, 16)]  # of super-resolution

Positive = Annotated[float, real(1e-9, 1e6)]
NonNegative = Annotated[float, real(0, 1e6)]
Fraction = Annotated[float, real(0, 1)]
Share = Annotated[
    float, Field(gt=0, lt=1, description="a number between 0 and 1, and neither of them")
]
ON_UNIT = ", of colours on [0, 1]"  # a number of 255ths is to be divided by 255


def fraction(value: str | float) -> float:
    """A length on [0, 1], or a fraction as the field writes it: `4/255`.

    Raises:
        UserError: it is not a number above 0.
    """
    try:
        number = float(Ratio(str(value)))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{value!r} is not a number or a fraction such as 4/255") from None
    if not number > 0:
        raise UserError(f"a length (eps, step_size) and a share (bands) are above 0: not {value}")
    return number


def _length(most: float, example: str = f"a fraction such as 4/255{ON_UNIT}") -> Any:
    """A number above 0, or a fraction; `fraction` reads it."""
    text = Annotated[str, Field(pattern=r"^[1-9]\d{0,8}/[1-9]\d{0,8}$")]
    said = f"a number from 1e-09 to {most}, or {example}"

    def check(value: str | float) -> str | float:
        if fraction(value) > most:
            raise ValueError(f"must be {said}, but is {fraction(value):g}")
        return value

    return Annotated[Positive | text, AfterValidator(check), Field(description=said)]


Length = _length(MOST_EPS)  # a radius eps; what Linf takes is less, see `check_ball`
Step = _length(1)  # of signs: every pixel moves by it
Bands = _length(1, "a share such as 1/4")  # of the DCT bands along each axis, the lowest ones
Colour = Annotated[float, real(1e-9, 1, ON_UNIT)]  # a difference of colours
Mean = Annotated[  # of each colour
    Sequence[Fraction], listed(3, 3, f"numbers from 0 to 1{ON_UNIT}")
]
Deviation = Annotated[Sequence[Colour], listed(3, 3, f"numbers above 0, up to 1{ON_UNIT}")]


def _smoothing(sigma: float) -> float:
    if sigma > 2:
        raise ValueError(f"must be at most 2{ON_UNIT}, but is {sigma:g}")
    return sigma


# Of the noise of randomised smoothing; the largest published one is 1. A smaller one than the least
# would be written with an exponent, which no path of a store has.
Sigma = Annotated[float, Field(ge=1e-4), AfterValidator(_smoothing)]

Text = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f]+$", max_length=4096, description="text that is not empty")
]
Names = Annotated[Sequence[Text], listed(1, 1000, "names")]
OBJECT = "Object"  # by which the code of an option counts in the hash of its part
Object = Annotated[  # a class or function; so annotated, its code is behind what it makes
    str,
    Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        max_length=200,
        description="MODULE:NAME of a class or function",
    ),
]
Arguments = Annotated[Mapping[str, Any], Field(description="a mapping of names to plain values")]

Norm = Literal["Linf", "L2"]
Gradient = Literal["full", "restorer", "identity", "blind"]  # see Defence.purified
JudgedGradient = Literal["full", "restorer", "identity"]  # of an attack that asks the defence
Loss = Literal["ce", "dlr", "dlr-targeted"]  # of APGD
Reduction = Literal["mean", "sum"]  # of squares over the pixels of an image
SDESolver = Literal["euler-maruyama", "sde-dpmpp", "sde-dpmpp-2m"]  # of a purifier's equation
ODESolver = Literal["euler", "dpmpp-2m"]
Correction = Literal["midpoint", "heun"]  # of sde-dpmpp-2m
Downsampler = Literal["area", "bicubic", "bilinear"]
RoundingGradient = Literal["straight-through", "smooth"]  # of what rounds
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]  # of a JPEG's chroma
Named = Literal["cifar10", "imagenet"]  # data sets whose classes' names are known
Interpolation = Literal["bicubic", "bilinear"]


class Values:
    """The values that an annotation allows."""

    def __init__(self, declared: Any):
        self.declared = declared
        try:
            self.adapter = TypeAdapter(declared, config=STRICT)
        except Exception:  # a model's own configuration counts
            self.adapter = TypeAdapter(declared)

    def checked(self, value: Any, name: str, where: str) -> Any:
        """The value of the option `name`, as declared.

        Raises:
            UserError: it is not among the values.
        """
        if self.declared is Any:
            return value
        try:
            return self.adapter.validate_json(json.dumps(value))
        except (ValueError, TypeError, RecursionError):  # pydantic's is a ValueError
            pass
        words = [word for word in get_args(self.declared) if isinstance(word, str)]
        if words and get_origin(self.declared) is Literal and isinstance(value, str):
            raise unknown(f"{name} (in {where})", value, words)
        raise UserError(f"{where}: {name} is {shown(value)}, but must be {allowed(self.declared)}")


@cache
def values_of(annotation: str) -> Values | None:
    """The values of an annotation, as it is written; None if it has names of other modules."""
    try:
        return Values(eval(annotation, globals()))  # noqa: S307  # the part's own text
    except Exception:  # it may be anybody's
        return None


TOGETHER = {  # options with the annotation by which they mean the same in every kind
    **{"eps": "Length", "step_size": "Step"},
    **{"resize": "Side | None", "crop": "Side | None"},
    **{"t": "Timestep", "t_delta": "TimestepSpread", "evaluations": "Timestep | None"},
    **{"solver": "SDESolver", "correction": "Correction | None"},
}


def check_together(declared: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Refuse options that do not go together: of their annotations as written, and their values.

    Raises:
        UserError: a ball or a step in it of another unit, a crop that is larger than what it is
            cut out of, levels beyond those of the VP-SDE, more evaluations than levels, or a
            correction of what is not corrected.
    """
    options = {name: v for name, v in values.items() if declared.get(name) == TOGETHER.get(name)}
    if "eps" in options:
        eps, norm = fraction(options["eps"]), values.get("norm", "Linf")
        check_ball(eps, norm)
        if "step_size" in options:
            check_step(fraction(options["step_size"]), eps, norm)
    resize, crop = options.get("resize"), options.get("crop")
    if resize and crop and crop > resize:
        raise UserError(f"crop is {crop}, but the short side is resized to {resize}")
    if "t" in options:
        check_levels(options["t"], options.get("t_delta", 0))
        check_evaluations(options.get("evaluations"), options["t"])
    check_correction(options.get("correction"), options.get("solver"))


def check_ball(eps: float, norm: str) -> None:
    """Refuse a radius of Linf, on [0, 1], that is above 1."""
    if norm == "Linf" and eps > 1:
        raise UserError(f"eps of Linf must lie in (0, 1], as 8/255 does, but is {eps:g}")


def check_counts(**counts: int | None) -> None:
    """Refuse options that count something, given from Python, unless they are whole numbers from 1.

    None is an option that is not given.
    """
    for name, count in counts.items():
        whole_number = isinstance(count, int) and not isinstance(count, bool)
        if count is not None and not (whole_number and count >= 1):
            raise UserError(f"{name} must be a whole number from 1, but is {count!r}")


def check_step(step_size: float, eps: float, norm: str) -> None:
    """Refuse a step of signs that is longer than the ball is wide."""
    if norm == "Linf" and step_size > 2 * eps:
        raise UserError(f"step_size is {step_size:g}, but the ball is {2 * eps:g} wide")


def check_levels(t: int, t_delta: int) -> None:
    """Refuse levels t' +- t_delta of which one is none of the VP-SDE."""
    if not 1 <= t - t_delta <= t + t_delta <= MOST_LEVEL:
        raise UserError(f"t' is {t} +- {t_delta}, but must lie between 1 and {MOST_LEVEL}")


def check_evaluations(evaluations: int | None, t: int) -> None:
    """Refuse a number of evaluations, None for t' of them, that is not from 1 to t'."""
    if evaluations is not None and not 1 <= evaluations <= t:
        raise UserError(f"evaluations is {evaluations}, but must lie between 1 and t' = {t}")


def check_correction(correction: str | None, solver: str | None) -> None:
    """Refuse a correction, None for the solver's own, of a solver that has no other one."""
    if correction is not None and solver != "sde-dpmpp-2m":
        raise UserError(f"correction is {correction}, but only sde-dpmpp-2m has one, not {solver}")


def shown(value: Any) -> str:
    """A value in a line, not all of it if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; endless nesting
        return "too long"
    return text if len(text) <= 80 else f"{text[:77]}..."


def allowed(declared: Any) -> str:
    """The values of an annotation in words."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        described = (m.description for m in arguments[1:] if isinstance(m, FieldInfo))
        return next(filter(None, described), None) or allowed(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(allowed, arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list, each {allowed(arguments[0])}"
    words = {NoneType: "null", int: "a whole number", float: "a finite number", str: "text"}
    return {**words, bool: "true or false"}.get(declared, getattr(declared, "__name__", "another"))
