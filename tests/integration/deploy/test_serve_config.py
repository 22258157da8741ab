"""The rendered `serveConfigV2` on a real Ray: put there as KubeRay does it, asked, scraped, scaled.

A Ray of its own, as the configuration is the application's and not the session's. One node stands
for head and workers; token authentication and the environment are the chart's.
"""

import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from deploy.dashboards.__main__ import BOARDS
from deploy.k8s.checks.ray import serve_config
from deploy.k8s.manifest import ray_service
from deploy.k8s.render import render
from deploy.k8s.values import load_values
from qzoom.model.random_checkpoint import write_random_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
TOKEN = "0123456789abcdef0123456789abcdef"
START_S = 300.0
SMALL = {
    "coarse_min_tokens": 16, "coarse_max_tokens": 64, "roi_min_tokens": 16, "roi_max_tokens": 48,
}  # fmt: skip


def _picture() -> str:
    """A picture as a data URL."""
    sink = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _eventually(what: str, seconds: float, ask: Callable[[], Any]) -> Any:
    """Ask until the answer is truthy."""
    deadline = time.monotonic() + seconds
    answer = None
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except httpx.HTTPError as error:
            answer = None
            last: object = error
        else:
            last = answer
        if answer:
            return answer
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds} s, last {last!r}")


@contextmanager
def _process(command: list[str], folder: Path, **environment: str) -> Iterator[Path]:
    """Run a program until the end of the block; gives its log."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=sink,
            stderr=sink,
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield log
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@dataclass
class Served:
    """The running application.

    Attributes:
        url: Of the edge.
        dashboard: Of Ray, where KubeRay puts the configuration.
        ray_metrics: Port of the node's metrics.
        config: What was put.
    """

    url: str
    dashboard: httpx.Client
    ray_metrics: int
    config: dict[str, Any]

    def states(self) -> dict[str, Any]:
        answer = self.dashboard.get("/api/serve/applications/").raise_for_status().json()
        application: dict[str, Any] = answer["applications"].get("qzoom", {})
        assert application.get("status") != "DEPLOY_FAILED", application.get("message")
        return application

    def is_running(self) -> bool:
        return bool(self.states().get("status") == "RUNNING")

    def replicas(self, deployment: str) -> int:
        found = self.states()["deployments"][deployment]["replicas"]
        return sum(replica["state"] == "RUNNING" for replica in found)

    def ask(self, key: str | None = None, **options: Any) -> httpx.Response:
        content = [
            {"type": "image_url", "image_url": {"url": _picture()}},
            {"type": "text", "text": "What is written there?"},
        ]
        messages = [{"role": "user", "content": content}]
        body = {"model": "answers", "max_tokens": 48, "messages": messages, **options}
        headers = {} if key is None else {"idempotency-key": key}
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=120)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    checkpoint = folder / "model"
    write_random_checkpoint(checkpoint, "qwen2_5_vl", **SMALL)
    gcs, client, dashboard, agent, agent_grpc, metrics, http, grpc = _free_ports(8)
    settings = [
        f"model.path={checkpoint}", "model.name=answers",
        f"edge.httpPort={http}", f"edge.grpcPort={grpc}",
        "autoscaling={policy: flow, lookBackSeconds: 11, upscaleDelaySeconds: 1, "
        "downscaleDelaySeconds: 15}",
        "stages.llm.targetOngoing=1",
        *(f"stages.{stage}.settings.threads=1" for stage in ("encoder", "gate", "rpn", "llm")),
    ]  # fmt: skip
    service = ray_service(render(load_values(["local"], settings), "qzoom", "qzoom"))
    worker = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    variables = {v["name"]: v["value"] for v in worker["containers"][0]["env"]}
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HOME": str(folder)}
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # A busy machine needs longer than Ray's minute.
    variables |= {"RAY_raylet_start_wait_time_s": "180"}
    # Ray's sockets need a short path.
    short = Path("/tmp") / f"qz{gcs}"
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=4",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true",
        "--disable-usage-stats", f"--temp-dir={short}", f"--port={gcs}",
        f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}", f"--object-store-memory={256 * 2**20}",
    ]  # fmt: skip
    config = serve_config(service)
    try:
        with (
            _process(command, folder, **variables) as log,
            httpx.Client(
                base_url=f"http://127.0.0.1:{dashboard}",
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=180,
            ) as client_,
        ):
            running = Served(f"http://127.0.0.1:{http}", client_, metrics, config)
            try:
                _eventually("Ray", START_S, lambda: "Ray runtime started" in log.read_text())
                _eventually("its dashboard", 120, lambda: client_.get("/api/version").is_success)
                client_.put("/api/serve/applications/", json=config).raise_for_status()
                _eventually("the application", START_S, running.is_running)
            except BaseException:
                sys.stderr.write(log.read_text()[-4000:])
                raise
            yield running
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_the_readiness_probe_of_the_chart_says_yes(served: Served):
    assert httpx.get(f"{served.url}/readyz", timeout=30).status_code == 200


def test_it_answers_on_both_routes(served: Served):
    for route in ("direct", "zoom"):
        answer = served.ask(qzoom={"route": route}, max_tokens=4)

        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["finish_reason"] in ("stop", "length")


def test_ray_refuses_whoever_has_no_token(served: Served):
    url = served.dashboard.base_url.join("/api/serve/applications/")

    assert httpx.get(url, timeout=30).status_code in (401, 403)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_scrapes_every_metric_of_the_dashboards(served: Served, tmp_path):
    served.ask(qzoom={"route": "zoom"}, max_tokens=2)
    served.ask(qzoom={"route": "auto"}, max_tokens=2, key="scraped")
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "deploy/helm/qzoom/files/rules.yaml")]
    edge = served.url.removeprefix("http://")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [edge]}]
    ray = {"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{served.ray_metrics}"]}]}
    config["scrape_configs"].append(ray)
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    [port] = _free_ports(1)
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yaml",
        f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    rules = yaml.safe_load((ROOT / "deploy/helm/qzoom/files/rules.yaml").read_text())
    exprs = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    exprs += [query.expr for board in BOARDS for query in board.queries()]
    wanted = {name for expr in exprs for name in _names(expr)}
    # Seen only where there is a GPU, a failure, a degraded answer, a rerun or an alert; and rules
    # over hours need hours.
    wanted -= {"ray_node_gpus_utilization", "qzoom_stage_errors_total",
               "qzoom_degraded_total", "qzoom:degraded:ratio15m", "qzoom:stage_errors:ratio5m",
               "qzoom_quota_refusals_total"}  # fmt: skip
    wanted = {name for name in wanted if not name.startswith("qzoom:request_errors")}

    with _process(command, tmp_path), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def missing() -> set[str]:
            answer = client.get("/api/v1/label/__name__/values").raise_for_status().json()
            return wanted - set(answer["data"])

        try:
            _eventually("all metrics", 90, lambda: not missing())
        except BaseException:
            sys.stderr.write(f"missing: {sorted(missing())}\n")
            raise
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert set(health.values()) == {"ok"}, health
        total = client.get("/api/v1/query", params={"query": "sum(qzoom_requests_total)"}).json()
        assert float(total["data"]["result"][0]["value"][1]) >= 2


def _names(expr: str) -> list[str]:
    return re.findall(r"\b(?:qzoom[_:]|ray_)[\w:]+", expr)


def test_load_brings_a_second_llm_replica_and_quiet_takes_it_away(served: Served):
    """1 -> 2 -> 1 by our own policy, inside Serve's controller."""
    assert served.replicas("llm") == 1
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            served.ask(max_tokens=48)

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        _eventually("a second replica", 180, lambda: served.replicas("llm") == 2)
    finally:
        stop.set()
        for client in clients:
            client.join(120)
    _eventually("one replica again", 180, lambda: served.replicas("llm") == 1)


def _replicas(served: Served) -> dict[str, set[str]]:
    return {
        name: {r["replica_id"] for r in found["replicas"] if r["state"] == "RUNNING"}
        for name, found in served.states()["deployments"].items()
    }


def test_thresholds_and_limits_change_in_place(served: Served):
    """What `--set stages.gateway.settings.tau_gate=...` does: no replica is started again."""
    before = _replicas(served)
    [gateway] = [
        d for d in served.config["applications"][0]["deployments"] if d["name"] == "gateway"
    ]
    usual = dict(gateway["user_config"])
    gateway["user_config"] |= {"tau_gate": 0.125, "max_tokens": 300, "requests_per_minute": 0}
    served.dashboard.put("/api/serve/applications/", json=served.config).raise_for_status()

    refused = _eventually(
        "the new quota",
        60,
        lambda: (a := served.ask(max_tokens=2)).status_code in (413, 429) and a,
    )
    assert "requests" in refused.json()["error"]["message"]
    too_long = served.ask(max_tokens=301)
    assert "300" in too_long.json()["error"]["message"], too_long.text

    del gateway["user_config"]["requests_per_minute"]
    served.dashboard.put("/api/serve/applications/", json=served.config).raise_for_status()
    answer = _eventually(
        "an answer", 60, lambda: (a := served.ask(max_tokens=2)).status_code == 200 and a
    )
    assert answer.json()["qzoom"]["tau_gate"] == 0.125
    gateway["user_config"] = usual
    served.dashboard.put("/api/serve/applications/", json=served.config).raise_for_status()
    _eventually(
        "the model's own threshold again",
        60,
        lambda: served.ask(max_tokens=2).json()["qzoom"]["tau_gate"] != 0.125,
    )
    assert _replicas(served) == before


def test_new_bounds_come_in_place(served: Served):
    """What `qzoom deploy rollout --set stages.llm.replicas.min=2` does to a running cluster."""
    before = {
        replica["replica_id"]
        for replica in served.states()["deployments"]["gate"]["replicas"]
        if replica["state"] == "RUNNING"
    }
    for deployment in served.config["applications"][0]["deployments"]:
        if deployment["name"] == "llm":
            deployment["autoscaling_config"]["min_replicas"] = 2

    served.dashboard.put("/api/serve/applications/", json=served.config).raise_for_status()

    _eventually("two replicas", 120, lambda: served.replicas("llm") == 2)
    after = {r["replica_id"] for r in served.states()["deployments"]["gate"]["replicas"]}
    assert before <= after, "other stages were not touched"
