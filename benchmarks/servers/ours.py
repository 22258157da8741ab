"""Our system under test: Ray, Serve and the five deployments on loopback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.servers.child import arguments, end_with_starter, live, own_output
from deploy.config import AppConfig
from deploy.local import LocalConfig, LocalSystem
from deploy.machine import free_port

STAGES = ("encoder", "gate", "rpn", "llm")


def main() -> None:
    """Serve until the input ends.

    Arguments: `model`, the folder; `threads` of each service; `replicas` by service; `gateway`,
    more settings of it; `is_direct`: whether gateways are asked over HTTP without Serve's proxy.
    """
    messages, given = own_output(), arguments()
    replicas: dict[str, int] = given.get("replicas", {})
    services = {
        name: {"threads": given["threads"], "replicas": replicas.get(name, 1)} for name in STAGES
    }
    app = AppConfig.model_validate(
        {
            "model": Path(given["model"]),
            "gateway": {"replicas": replicas.get("gateway", 1), **given.get("gateway", {})},
            **services,
        }
    )
    config = LocalConfig(
        app,
        port=free_port(),
        grpc_port=free_port(),
        start_timeout_s=220.0,
        is_direct=given.get("is_direct", False),
    )
    with LocalSystem(config) as system:
        system.start(lambda _progress: end_with_starter())
        ready = {
            "url": system.url,
            "grpc_target": system.grpc_target,
            "model": app.gateway_settings().model_name,
        }
        live(messages, ready, {"stored_bytes": _stored_bytes})


def _stored_bytes() -> int:
    """Bytes that live objects take in the object store."""
    from ray._private import internal_api  # noqa: PLC0415 Ray reads its environment on import

    # Ray types neither of the two.
    find_state: Callable[[], object] = internal_api.get_state_from_address
    ask_memory: Callable[[object], Any] = internal_api.get_memory_info_reply
    return int(ask_memory(find_state()).store_stats.object_store_bytes_used)


if __name__ == "__main__":
    main()
