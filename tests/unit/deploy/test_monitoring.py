"""Dashboards and rules: generated, parsed, tested, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml

from deploy.dashboards.__main__ import BOARDS, FOLDER
from deploy.dashboards.panels import Board, to_json
from deploy.k8s.manifest import find
from deploy.k8s.values import CHART
from qzoom import errors
from qzoom.telemetry.names import Kind, Metric

ROOT = Path(__file__).parents[3]
RULES = CHART / "files" / "rules.yaml"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "operations.md"

OURS = {
    name
    for metric in Metric
    for name in (
        [metric.value.name + suffix for suffix in ("_bucket", "_sum", "_count")]
        if metric.value.kind is Kind.HISTOGRAM
        else [metric.value.name]
    )
}
"""Names as a scrape shows them."""


def _rules() -> list[dict[str, str]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


RAYS = {"ray_object_store_memory", "ray_resources"}
"""Of Ray itself; that a node exposes them is tested with a real Prometheus."""

RECORDED = {rule["record"] for rule in _rules() if "record" in rule}


def _concrete(expr: str) -> str:
    return expr.replace("$__rate_interval", "5m")


def _selectors(node: object) -> Iterator[str]:
    """Names of all metrics in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name
        return
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, part, None)
        if child is not None:
            yield from _selectors(child)
    for child in getattr(node, "args", None) or ():
        yield from _selectors(child)


def _metrics(expr: str) -> set[str]:
    return set(_selectors(promql_parser.parse(_concrete(expr))))


@pytest.fixture(params=BOARDS, ids=lambda board: board.name)
def board(request: pytest.FixtureRequest) -> Board:
    return request.param


def test_the_committed_json_is_the_generated_one(board: Board):
    assert (FOLDER / f"{board.name}.json").read_text() == to_json(board), (
        "run python -m deploy.dashboards"
    )


def test_no_dashboard_is_left_over():
    assert {path.stem for path in FOLDER.iterdir()} == {board.name for board in BOARDS}


def test_panels_have_ids_of_their_own_a_chosen_source_and_words(board: Board):
    panels = json.loads(to_json(board))["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${source}"
        assert panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["targets"]


def test_panels_do_not_overlap(board: Board):
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(to_json(board))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_expression_of_a_dashboard_is_about_metrics_that_exist(board: Board):
    for query in board.queries():
        names = _metrics(query.expr)
        assert names, query.expr
        for name in names:
            known = name in OURS or name in RECORDED or name == "ALERTS"
            assert known or name.startswith("ray_"), f"{name} in {query.expr}"


def test_every_expression_of_a_rule_is_about_metrics_that_exist():
    for rule in _rules():
        for name in _metrics(rule["expr"]):
            assert name in OURS | RECORDED | RAYS, f"{name} in {rule['expr']}"


def test_a_broken_expression_would_be_noticed():
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse("sum(rate(x[5m])")
    assert _metrics("sum(rate(a_total[5m])) / on () group_left () sum(b) or vector(0)") == {
        "a_total", "b",
    }  # fmt: skip


def test_every_outcome_is_either_ours_or_the_clients_fault():
    """A new error code must be put on one side, or the objective silently misses it."""
    rule = next(r for r in _rules() if r.get("record") == "qzoom:request_errors:ratio5m")
    ours, theirs = (
        set(found.split("|")) for found in re.findall(r'outcome(?:=~|!~)"([^"]+)"', rule["expr"])
    )
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.QZoomError)
    }

    assert ours | theirs == codes
    assert not ours & theirs


def test_every_window_of_an_objective_uses_the_same_outcomes():
    ratios = [r["expr"] for r in _rules() if r.get("record", "").startswith("qzoom:request_errors")]

    assert len({re.sub(r"\[\w+\]", "[w]", expr) for expr in ratios}) == 1


def test_every_alert_has_a_runbook():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in RUNBOOKS.read_text().splitlines()
        if line.startswith("#")
    }
    for rule in _rules():
        if "alert" in rule:
            anchor = rule["annotations"]["runbook_url"].removeprefix("RUNBOOKS#")
            assert anchor in headings, f"{rule['alert']} has no section in docs/operations.md"
            assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_chart_carries_the_rules_with_the_runbooks_address(rendered):
    rule = find(rendered("gpu"), "PrometheusRule")[0]
    groups = yaml.safe_load(RULES.read_text())["groups"]

    assert [g["name"] for g in rule["spec"]["groups"]] == [g["name"] for g in groups]
    assert "RUNBOOKS" not in str(rule)
    assert "https://" in rule["spec"]["groups"][-1]["rules"][0]["annotations"]["runbook_url"]


def test_the_chart_carries_every_dashboard_unchanged(rendered):
    maps = {m["metadata"]["name"]: m["data"] for m in find(rendered("local"), "ConfigMap")}
    for board in BOARDS:
        [text] = maps[f"qzoom-dashboard-{board.name}"].values()
        assert json.loads(text) == json.loads(to_json(board))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_configuration_rules_and_their_tests():
    for words in (
        ("check", "config", "prometheus.yaml"),
        ("test", "rules", "rules_test.yaml"),
    ):
        done = subprocess.run(
            ["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_every_expression_of_a_dashboard(board: Board, tmp_path):
    rules = [
        {"record": f"check:expr{number}", "expr": _concrete(query.expr)}
        for number, query in enumerate(board.queries())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "check", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
