"""At the door of a gateway: errors for clients, counts, and nothing that stays behind."""

import asyncio
import time

import pytest

from gateway.admission.admission import Admission
from gateway.admission.bounds import AdmissionBounds
from gateway.admission.brownout import BrownoutBounds
from gateway.admission.cost import Cost
from gateway.admission.desk import Desk
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.errors import DeadlineExceeded, Overloaded, Unavailable
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import Span

COST = Cost(10, 100, 1000, 1000)
SOON_S = 30.0


def question(in_s=SOON_S):
    return AnswerRequest(
        request_id="r",
        model="m",
        conversation=single_question("what?"),
        images=(),
        image_params=(),
        sampling=Sampling(),
        options=Options(),
        stream=False,
        deadline=time.time() + in_s,
        trace={},
    )


@pytest.fixture
def telemetry():
    made = GatewayTelemetry()
    yield made
    made.close()


class Door:
    def __init__(self, telemetry, **bounds):
        self.telemetry = telemetry
        self.desk = Desk(AdmissionBounds(brownout=BrownoutBounds(steps=0), **bounds))
        self.admission = Admission(self.desk, telemetry, "g")
        self.go = asyncio.Event()

    async def pass_through(self, in_s=SOON_S):
        with self.telemetry.request("r", {}, "m", "default") as told:
            async with self.admission.enter(question(in_s), COST, told):
                await self.go.wait()

    async def begin(self, count):
        tasks = [asyncio.create_task(self.pass_through()) for _ in range(count)]
        await asyncio.sleep(0.01)
        return tasks

    def count(self, outcome):
        samples = self.telemetry.metrics.snapshot().samples
        return samples.get(("qzoom_admissions_total", (("outcome", outcome),)), 0.0)

    @property
    def kv_bytes(self):
        return self.telemetry.metrics.snapshot().samples["qzoom_kv_bytes", ()]

    @property
    def waiting(self):
        return self.telemetry.metrics.snapshot().samples["qzoom_admission_waiting", ()]


async def test_a_wait_is_a_span_and_ends_with_its_turn(telemetry):
    door = Door(telemetry, requests=1)
    first, second = await door.begin(2)
    assert (door.desk.state.in_work, door.desk.state.waiting, door.waiting) == (1, 1, 1.0)
    assert door.kv_bytes == COST.kv_bytes
    door.go.set()
    await asyncio.gather(first, second)
    assert door.kv_bytes == 0
    assert (door.desk.state.in_work, door.desk.state.waiting, door.waiting) == (0, 0, 0.0)
    assert door.count("admitted") == 2
    for record in telemetry.traces.recent():
        assert record.spans[0].name == Span.ADMISSION_WAIT


async def test_no_room_is_429_and_says_for_how_long(telemetry):
    door = Door(telemetry, requests=1, max_waiting=0)
    (first,) = await door.begin(1)
    with pytest.raises(Overloaded, match="at most 0") as raised:
        await door.pass_through()
    assert raised.value.http_status == 429
    assert raised.value.retry_after_s >= 1.0
    assert door.count("queue_full") == 1
    door.go.set()
    await first


async def test_who_leaves_while_waiting_leaves_nothing(telemetry):
    door = Door(telemetry, requests=1)
    first, second = await door.begin(2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert door.desk.state.waiting == 0
    assert door.count("cancelled") == 1
    door.go.set()
    await first
    assert door.desk.state.in_work == 0


async def test_a_deadline_that_stages_cannot_meet_is_exceeded_at_once(telemetry):
    door = Door(telemetry)
    for _ in range(10):
        door.admission.times.observe(Span.GATE_PREFILL, 5.0)
    with pytest.raises(DeadlineExceeded, match=r"at least 5\.00 s"):
        await door.pass_through(in_s=2.0)
    assert door.count("deadline") == 1


async def test_a_system_that_drains_is_unavailable(telemetry):
    door = Door(telemetry)
    door.admission.check_open()
    door.desk.drain()
    with pytest.raises(Unavailable) as raised:
        await door.pass_through()
    assert raised.value.retry_after_s
    with pytest.raises(Unavailable):
        door.admission.check_open()


async def test_what_a_proxy_refused_is_counted_as_refused_here(telemetry):
    door = Door(telemetry)
    door.admission.refused_early(7)
    assert door.count("door_closed") == 7
    key = ("qzoom_requests_total", (("outcome", Overloaded.code), ("route", "none")))
    assert telemetry.metrics.snapshot().samples[key] == 7
