"""What follows for one service from the settings of another, where the application is built."""

import pytest
from ray.serve._private.build_app import build_app

from deploy.app import build
from deploy.config import AppConfig
from qzoom.builtin import builtin_model


@pytest.mark.parametrize(
    ("gate", "llm", "longest"),
    [({}, {}, 4095), ({}, {"max_len": 512}, 511), ({"max_prompt_tokens": 100}, {}, 100)],
)
def test_the_gate_takes_no_prompt_that_the_llm_cannot_hold(gate, llm, longest):
    built = build_app(build(AppConfig(model=builtin_model(), gate=gate, llm=llm)), name="test")
    arguments = {deployment.name: deployment.init_args for deployment in built.deployments}
    (settings,) = arguments["gate"]
    assert settings.max_prompt_tokens == longest
