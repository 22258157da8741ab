"""The model of queues against cases whose answer is known."""

import pytest

from benchmarks.capacity import Assumptions, capacity_rows, gpu_seconds, network_bytes
from benchmarks.simulate import Model, Simulation, StageCost

STAGES = ("encoder.coarse", "gate.prefill")


def model(**fields):
    free = StageCost(0.0, 1e-9)
    costs = dict.fromkeys(("encoder.coarse", "gate.prefill", "llm.resume", "llm.decode"), free)
    values = {
        "services": {"encoder.coarse": "encoder", "gate.prefill": "gate"},
        "costs": costs | fields.pop("costs", {}),
        "direct": STAGES,
        "zoom": STAGES,
        "zoom_share": 0.0,
        "answer_tokens": 2,
        "overhead_s": 0.0,
        **fields,
    }
    return Model(**values)


def throughput(system, *, cores=100, clients=10, **replicas):
    run = Simulation(system, replicas=replicas, cores=cores, clients=clients, requests=400)
    return run.run()


def test_costs_are_fitted_as_a_fixed_and_a_growing_part():
    cost = StageCost.fit({1: 0.03, 2: 0.04, 4: 0.06})
    assert (cost.fixed, cost.each) == (pytest.approx(0.02), pytest.approx(0.01))
    assert StageCost.fit({2: 0.05}).of(4) == pytest.approx(0.1)


def test_the_slowest_stage_sets_the_pace_and_a_second_replica_doubles_it():
    system = model(costs={"gate.prefill": StageCost(0.0, 0.01)})
    assert throughput(system) == pytest.approx(100, rel=0.05)
    assert throughput(system, gate=2) == pytest.approx(200, rel=0.1)
    assert throughput(system, encoder=2) == pytest.approx(100, rel=0.05)


def test_replicas_bring_nothing_where_the_cores_are_used_up():
    system = model(costs={"gate.prefill": StageCost(0.0, 0.01)}, overhead_s=0.01)
    one, two = (throughput(system, cores=1, gate=n) for n in (1, 2))
    assert one == pytest.approx(50, rel=0.05)
    assert two == pytest.approx(50, rel=0.05)


def test_batches_share_the_fixed_part():
    alone = model(costs={"gate.prefill": StageCost(0.01, 0.0)}, max_batch=1)
    together = model(costs={"gate.prefill": StageCost(0.01, 0.0)}, max_batch=16)
    assert throughput(together) > 4 * throughput(alone)


def test_one_client_waits_for_every_stage_in_turn():
    costs = {
        "encoder.coarse": StageCost(0.0, 0.02),
        "gate.prefill": StageCost(0.0, 0.01),
        "llm.resume": StageCost(0.0, 0.03),
        "llm.decode": StageCost(0.0, 0.01),
    }
    system = model(costs=costs, answer_tokens=5, overhead_s=0.06)
    run = Simulation(system, replicas={}, cores=8, clients=1, requests=20)
    run.run()
    assert run.latencies_s == pytest.approx([0.02 + 0.01 + 0.03 + 4 * 0.01 + 0.06] * 20)


def test_the_paper_s_state_is_27_mb_and_ten_requests_fit_on_one_gpu():
    given = Assumptions(zoom_share=0.0, picture_bytes=0.0)
    assert network_bytes(given) == pytest.approx(27.3e6 + 576 * 3584 * 2, rel=0.01)
    ten, *_ = capacity_rows(Assumptions()).rows
    assert ten[-2] == "1"
    zooming = sum(gpu_seconds(Assumptions(zoom_share=1.0)).values())
    assert zooming > 1.5 * sum(gpu_seconds(Assumptions(zoom_share=0.0)).values())
