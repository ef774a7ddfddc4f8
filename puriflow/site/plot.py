"""Robust accuracy against cost, as a specification of Vega-Lite, and the scripts that draw it."""

from functools import cache
from typing import Any, Literal

from puriflow.errors import UserError

BEHIND_RESULTS = False
BLUE, ORANGE, GREY = "#0b5394", "#b45309", "#5f6b7a"
NAME = "rows"  # of the data, which the page gives
MISSING = "a site needs Altair: pip install 'puriflow[site]'"


def spec(cost: str, title: str, scale: Literal["log", "symlog"]) -> dict[str, Any]:
    """A chart of the rows of one protocol: intervals, points, and the line of Pareto.

    Args:
        cost: the field of the rows on the x axis.
        title: of that axis.
        scale: of it; `log`, or `symlog` where a cost may be zero.

    Raises:
        UserError: Altair is not installed.
    """
    try:
        import altair as alt
    except ImportError:
        raise UserError(MISSING) from None
    axis = alt.Axis(labelOverlap="greedy", labelSeparation=8)
    x = alt.X(f"{cost}:Q", title=title, axis=axis, scale=alt.Scale(type=scale, nice=True))
    y = alt.Y("robust:Q", title="robust accuracy (%)", scale=alt.Scale(domain=[0, 100]))
    legend = alt.Legend(orient="bottom", columns=2)
    chosen = alt.param(name="chosen", value="")
    base = alt.Chart(alt.NamedData(NAME))
    intervals = base.mark_rule(color=GREY, opacity=0.35).encode(
        x=x, y=alt.Y("low:Q", title="robust accuracy (%)"), y2="high:Q"
    )
    line = (
        base.transform_filter("datum.front")
        .mark_line(interpolate="step-after", color=BLUE)
        .encode(x=x, y=y, order=f"{cost}:Q")
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x,
        y=y,
        color=alt.Color(
            "kind:N",
            title=None,
            legend=legend,
            scale=alt.Scale(
                domain=["on the Pareto line", "not on it", "an attack failed"],
                range=[BLUE, GREY, ORANGE],
            ),
        ),
        shape=alt.Shape(
            "source:N",
            title=None,
            legend=alt.Legend(orient="top"),
            scale=alt.Scale(domain=["run here", "others' record"], range=["circle", "diamond"]),
        ),
        size=alt.condition("datum.id === chosen", alt.value(300), alt.value(90)),
        tooltip=[
            alt.Tooltip("name:N", title="defence"),
            alt.Tooltip("said:N", title="robust (95 %)"),
            alt.Tooltip(f"{cost}:Q", title=title, format=".3~g"),
            alt.Tooltip("standard:Q", title="standard"),
        ],
    )
    # A name stands where there is room for it, so that it does not push the axes together.
    right = f"scale('x', datum.{cost}) > width / 2"
    names = (
        base.transform_filter("datum.front")
        .mark_text(
            align=alt.ExprRef(f"{right} ? 'right' : 'left'"),
            dx=alt.ExprRef(f"{right} ? -8 : 8"),
            limit=alt.ExprRef("width / 2"),
            opacity=alt.ExprRef("width < 500 ? 0 : 1"),  # of a phone
            dy=-9,
            color=BLUE,
            fontSize=12,
        )
        .encode(x=x, y=y, text="name:N")
    )
    chart = (intervals + line + points + names).add_params(chosen)
    made = chart.properties(width="container", height=380).configure_view(stroke=None)
    made = made.configure_axis(labelFontSize=12, titleFontSize=13, gridColor="#e6eaee")
    made = made.configure_legend(labelFontSize=12)
    return made.to_dict(validate=True)


@cache
def scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which needs no network.

    Raises:
        UserError: what brings them is not installed.
    """
    try:
        import altair
        from vl_convert import javascript_bundle
    except ImportError:
        raise UserError(MISSING) from None
    version = ".".join(altair.SCHEMA_VERSION.split(".")[:2])  # the one of `spec`
    return javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
