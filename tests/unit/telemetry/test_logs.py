import io
import json

import pytest

from qzoom.contracts.stages import Context, Timing
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.logs import EventLog
from qzoom.telemetry.names import Attribute, Event, Span
from qzoom.telemetry.service import ServiceTelemetry

KNOWN = {"time", "level", "service", "event", "request_id", "trace_id"}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_one_json_object_with_the_vocabularys_names():
    stream = io.StringIO()
    log = EventLog("gate", stream)
    log.info(Event.STAGE_DONE, "r1", "t1", {Attribute.P_REFINE: 0.5, Attribute.BOX: (1, 2, 3, 4)})
    [line] = lines(stream.getvalue())
    assert set(line) == {*KNOWN, "qzoom.p_refine", "qzoom.box"}
    assert line["service"] == "gate"
    assert line["event"] == "stage.done"
    assert line["level"] == "info"
    assert line["qzoom.box"] == [1, 2, 3, 4]


def test_newlines_and_long_texts_do_not_break_the_line():
    stream = io.StringIO()
    EventLog("gate", stream).warning(
        Event.REQUEST_DEGRADED, "a\nb", "t1", {Attribute.DEGRADED: "x\n" * 5000}
    )
    [line] = lines(stream.getvalue())
    assert line["request_id"] == "a\nb"
    assert len(line["qzoom.degraded"]) == 256


def test_building_a_log_again_does_not_double_its_lines():
    first, second = io.StringIO(), io.StringIO()
    EventLog("gate", first)
    EventLog("gate", second).info(Event.STAGE_DONE, "r", "t", {})
    assert first.getvalue() == ""
    assert len(lines(second.getvalue())) == 1


def test_a_defect_is_logged_with_its_traceback_and_as_an_internal_error(capsys):
    gateway = GatewayTelemetry()
    with pytest.raises(ZeroDivisionError), gateway.request("r1", {}, "builtin"):
        raise ZeroDivisionError
    defect, done = lines(capsys.readouterr().err)
    assert defect["event"] == "internal.error"
    assert "ZeroDivisionError" in defect["exception"]
    assert done["qzoom.outcome"] == "internal_error"
    assert done["trace_id"] == defect["trace_id"]


def test_one_line_per_request_and_service(capsys):
    service = ServiceTelemetry("rpn")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    context = Context("r1", 2e9, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    with service.stage(Span.RPN_PROPOSE, context) as call:
        call.ran(Timing(0.001, 0.002, 4))
    [line] = lines(capsys.readouterr().err)
    assert line["trace_id"] == trace_id
    assert line["qzoom.stage"] == "rpn.propose"
    assert line["qzoom.batch_size"] == 4
    assert line["qzoom.outcome"] == "ok"
