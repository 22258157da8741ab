"""Settings stop the process when something is wrong, and say what."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.app import build
from deploy.config import AppConfig
from services.gate.settings import GateSettings
from services.llm.settings import LlmSettings


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("QZOOM_GATE_MAX_BATCH_TOKENS", "77")
    assert GateSettings(checkpoint=Path("m")).max_batch_tokens == 77


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("QZOOM_LLM_MAX_SLOT", "4", "unknown environment variables: QZOOM_LLM_MAX_SLOT"),
        ("QZOOM_LLM_MAX_SLOTS", "many", "valid integer"),
        ("QZOOM_LLM_MAX_SLOTS", "0", "greater than or equal to 1"),
        ("QZOOM_LLM_DEVICE", "tpu", "'cpu' or 'cuda'"),
    ],
)
def test_bad_variables_stop_the_process(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        LlmSettings(checkpoint=Path("m"))


def test_settings_cannot_be_changed():
    settings = LlmSettings(checkpoint=Path("m"))
    with pytest.raises(ValidationError):
        settings.max_slots = 3


def test_what_is_said_for_all_services_can_be_said_again_for_one(monkeypatch):
    monkeypatch.setenv("QZOOM_ENCODER_THREADS", "3")
    config = AppConfig(model=Path("m"), dtype="bfloat16", llm={"dtype": "float32"})
    assert config.gate_settings().dtype == "bfloat16"
    assert config.llm_settings().dtype == "float32"
    assert config.encoder_settings().threads == 3
    assert config.gateway_settings().model_name == "m"


def test_an_unknown_field_of_a_service_is_refused():
    with pytest.raises(ValidationError, match=r"replica\b"):
        build(AppConfig(model=Path("m"), rpn={"replica": 2}))


def test_the_application_has_five_deployments():
    application = build(AppConfig(model=Path("m"), gate={"replicas": 2, "max_waiting": 5}))
    bound = application._bound_deployment
    assert bound.name == "gateway"
    services = {name: app._bound_deployment for name, app in bound.init_kwargs.items()}
    assert set(services) == {"encoder", "gate", "rpn", "llm"}
    assert services["gate"].num_replicas == 2
    assert services["gate"].max_ongoing_requests == 10


def test_reuse_is_switched_off_everywhere_at_once():
    on = AppConfig(model=Path("m"), gateway={"reuse_mib": 8})
    off = on.model_copy(update={"reuse": False})
    for name in ("encoder", "gate", "rpn", "llm"):
        settings = f"{name}_settings"
        assert getattr(on, settings)().reuse_bytes > 0
        assert getattr(off, settings)().reuse_bytes == 0
    assert on.gateway_settings().reuse_mib == 8
    assert off.gateway_settings().reuse_mib == 0
