"""Settings that change while a gateway runs: which, over which, and what is refused."""

from types import SimpleNamespace

import pytest

from gateway.access.access import Access
from gateway.admission.desk import Desk
from gateway.deployment import GatewayDeployment
from gateway.edge import Edge
from gateway.live import LIVE, with_live
from gateway.settings import GatewaySettings
from qzoom.telemetry.gateway import GatewayTelemetry

START = GatewaySettings(model_name="m", tau_gate=0.4, admit_requests=8, max_pixels=1_000_000)


def test_what_is_told_goes_over_the_start_and_the_rest_stays():
    settings = with_live(START, {"tau_gate": 0.7, "concurrency": 3, "admit_requests": 20})

    assert settings.access_settings().initial.tau_gate == 0.7
    assert settings.access_settings().initial.default_limits.concurrency == 3
    assert settings.admission_bounds().requests == 20
    assert settings.max_pixels == 1_000_000


def test_what_is_told_no_more_is_as_at_the_start():
    assert with_live(START, {}) == START


def test_variables_of_the_moment_change_nothing(monkeypatch):
    monkeypatch.setenv("QZOOM_GATEWAY_MAX_IMAGES", "3")
    assert with_live(START, {"tau_gate": 0.5}).max_images == START.max_images


def test_every_live_field_is_a_setting():
    assert set(GatewaySettings.model_fields) >= LIVE


@pytest.mark.parametrize(
    ("live", "message"),
    [
        ({"max_pixels": 5}, "has max_pixels; what changes in place is admit_kv_mib, "),
        ({"typo": 1}, "has typo"),
        ({"tau_gate": 2}, "tau_gate: Input should be less than or equal to 1"),
        ({"max_tokens": 1}, "default_max_tokens is 256, above max_tokens, which is 1"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(live, message):
    with pytest.raises(ValueError, match=message):
        with_live(START, live)


@pytest.fixture
async def gateway(tmp_path):
    """The parts of a gateway that obey, as they are after its start."""
    telemetry = GatewayTelemetry()
    settings = START.model_copy(update={"store": f"sqlite://{tmp_path}/store.sqlite3"})
    made = SimpleNamespace(
        _settings=settings,
        _access=Access(settings.access_settings(), telemetry),
        _desk=Desk(settings.admission_bounds()),
        edge=Edge(None, ("m",), telemetry.log, settings.request_limits()),
    )
    yield made
    made._access.close()
    await made._access._closing
    telemetry.close()


async def test_a_gateway_obeys_at_once_and_keeps_what_it_had_when_it_cannot(gateway):
    reconfigure = GatewayDeployment.func_or_class.reconfigure
    await reconfigure(gateway, {"tau_gate": 0.7, "max_tokens": 300, "admit_requests": 3})

    assert gateway._access.tau_gate == 0.7
    assert gateway.edge.limits.max_tokens == 300
    assert gateway._desk._bounds.requests == 3

    with pytest.raises(ValueError, match="has max_pixels"):
        await reconfigure(gateway, {"max_pixels": 1, "tau_gate": 0.1})
    assert gateway._access.tau_gate == 0.7

    await reconfigure(gateway, {})
    assert (gateway._access.tau_gate, gateway._desk._bounds.requests) == (0.4, 8)
    assert gateway.edge.limits == START.request_limits()
