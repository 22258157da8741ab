import json

from PIL import Image

from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.results import write_report


def make_report(kind):
    x = ("a", "b") if kind == "bars" else (1.0, 2.0)
    return Report(
        bench="example",
        load={"rounds": 3},
        tables=[Rows("ms", ("", "time"), (("a", "1.0"),))],
        figures={"a": 1.0},
        plot=Plot(kind, "Example", "x", "ms", x, {"one": (1.0, float("nan")), "two": (3.0, 2.0)}),
        targets=[Target("speed", 3.0, 2.0, at_least=True), Target("cost", 3.0, 2.0)],
    )


def test_a_result_names_command_machine_load_and_targets(tmp_path):
    data, picture = write_report(make_report("bars"), tmp_path / "new", "qzoom bench example")
    result = json.loads(data.read_text())
    assert result["command"] == "qzoom bench example"
    assert result["machine"]["cores"] >= 1
    assert "torch" in result["machine"]["packages"]
    assert result["load"] == {"rounds": 3}
    assert [target["is_met"] for target in result["targets"]] == [True, False]
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_a_dependence_is_drawn_as_lines(tmp_path):
    _, picture = write_report(make_report("lines"), tmp_path, "qzoom bench example")
    with Image.open(picture) as image:
        assert image.size[0] > 600
