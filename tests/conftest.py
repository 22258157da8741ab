"""One running system for the whole session: our own Ray, HTTP and gRPC, five deployments."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SMALL_BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 64,
    "roi_min_tokens": 16,
    "roi_max_tokens": 48,
}
START_TIMEOUT_S = 240.0
ENCODER_SETTINGS = {"threads": 1}
STAGE_SETTINGS = {"threads": 1, "count_work": True}
LLM_SETTINGS = {**STAGE_SETTINGS, "max_slots": 8, "max_len": 1024}


@dataclass(frozen=True)
class Cluster:
    """The running system.

    Attributes:
        url: Base URL of REST.
        grpc_target: Target of a gRPC channel.
        model: Name of the model.
        checkpoint: Its folder: random weights of Qwen2.5-VL, our own format, preset `paper`.
        ready: What /readyz said when the system became ready.
        application: Name of the Serve application.
        budget: Fields of QZoomConfig that keep its pictures small.
    """

    url: str
    grpc_target: str
    model: str
    checkpoint: Path
    ready: dict[str, Any]
    application: str
    budget: dict[str, int]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the system once; every test that uses it carries the marker `cluster`."""
    from deploy.config import AppConfig  # noqa: PLC0415 most runs of single tests need no Ray
    from deploy.local import APPLICATION, LocalConfig, LocalSystem  # noqa: PLC0415
    from qzoom.model.random_checkpoint import write_random_checkpoint  # noqa: PLC0415

    checkpoint = tmp_path_factory.mktemp("cluster") / "random-qwen2_5_vl"
    write_random_checkpoint(checkpoint, "qwen2_5_vl", **SMALL_BUDGET)
    app = AppConfig(
        model=checkpoint,
        encoder=ENCODER_SETTINGS,
        gate=STAGE_SETTINGS,
        rpn=STAGE_SETTINGS,
        llm=LLM_SETTINGS,
    )
    config = LocalConfig(
        app, port=free_port(), grpc_port=free_port(), start_timeout_s=START_TIMEOUT_S
    )
    with LocalSystem(config) as system:
        ready = system.start(lambda _progress: None)
        yield Cluster(
            url=system.url,
            grpc_target=system.grpc_target,
            model=checkpoint.name,
            checkpoint=checkpoint,
            ready=ready,
            application=APPLICATION,
            budget=SMALL_BUDGET,
        )
