"""What is on a dashboard? Panels as plain values, and how they become Grafana's JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
"""Columns of Grafana's grid."""

SOURCE = "source"
"""Name of the variable that chooses the Prometheus."""

Kind = Literal["lines", "stacked", "number", "bars", "heatmap"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression.

    Attributes:
        expr: May use `$__rate_interval` and the variables of the dashboard.
        legend: Grafana's pattern such as `{{stage}}`.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        title: The question that it answers.
        about: How to read it, shown behind the (i).
        queries: What it shows.
        unit: Grafana's name of the unit, such as `s` or `percentunit`.
        kind: How it is drawn.
        width: In columns of 24.
        height: In rows of the grid.
        limits: From where on a number is orange, and red; None colours nothing.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "lines"
    width: int = 12
    height: int = 8
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A headline with panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        name: Of the JSON file and, with a prefix, the uid.
        title: As Grafana lists it.
        about: Who looks at it, and when.
        rows: From top to bottom.
    """

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]

    def queries(self) -> Iterator[Query]:
        """All expressions."""
        for row in self.rows:
            for panel in row.panels:
                yield from panel.queries


def to_json(board: Board) -> str:
    """Write a dashboard as Grafana imports it: same input, same bytes."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"qzoom-{board.name}")
        .description(board.about)
        .tags(["qzoom"])
        .editable()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable(SOURCE).label("Prometheus").type("prometheus").regex("")
        )
        .link(
            dashboard.DashboardLink("Q-Zoom")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["qzoom"])
            .keep_time(True)
            .include_vars(True)
        )
    )
    number, y = 0, 0
    for row in board.rows:
        number += 1
        built.with_row(dashboard.Row(row.title).id(number).grid_pos(GridPos(1, WIDTH, 0, y)))
        x, y, line = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, line = 0, y + line, 0
            line = max(line, panel.height)
            number += 1
            position = GridPos(panel.height, panel.width, x, y)
            built.with_panel(_build(panel).id(number).grid_pos(position))
            x += panel.width
        y += line
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


# The SDK's builders have no type in common.
def _build(panel: Panel) -> Any:  # noqa: ANN401
    builder: Any = _BUILDERS[panel.kind]()
    source = DataSourceRef(type_val="prometheus", uid=f"${{{SOURCE}}}")
    builder.title(panel.title).description(panel.about).unit(panel.unit).datasource(source)
    if panel.limits is not None:
        builder.thresholds(_colours(*panel.limits))
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        target.ref_id(chr(ord("A") + number)).datasource(source)
        if panel.kind in ("number", "bars"):
            target.instant()
        if panel.kind == "heatmap":
            target.format(PromQueryFormat.HEATMAP)
        builder.with_target(target)
    return builder


def _colours(orange: float, red: float) -> dashboard.ThresholdsConfig:
    steps = ((None, "green"), (orange, "orange"), (red, "red"))
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value, colour) for value, colour in steps])
    )


def _lines() -> Any:  # noqa: ANN401
    legend = common.VizLegendOptions().display_mode(models.LegendDisplayMode.TABLE)
    legend.placement(models.LegendPlacement.RIGHT).calcs(["lastNotNull", "max"]).show_legend(True)
    tooltip = common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI)
    return timeseries.Panel().min(0).fill_opacity(5).legend(legend).tooltip(tooltip)


def _stacked() -> Any:  # noqa: ANN401
    stacking = common.StackingConfig().mode(models.StackingMode.NORMAL)
    return _lines().stacking(stacking).fill_opacity(60).line_width(0)


def _number() -> Any:  # noqa: ANN401
    return stat.Panel().reduce_options(_newest())


def _bars() -> Any:  # noqa: ANN401
    bars = bargauge.Panel().min(0).reduce_options(_newest())
    return bars.orientation(models.VizOrientation.HORIZONTAL)


def _newest() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


_BUILDERS = {
    "lines": _lines,
    "stacked": _stacked,
    "number": _number,
    "bars": _bars,
    "heatmap": heatmap.Panel,
}
