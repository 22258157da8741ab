"""What can be known of a local system before anything starts."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.config import AppConfig
from deploy.local import LocalConfig, LocalSystem, _for_this_machine
from deploy.machine import check_free, end_processes_of, environment
from deploy.states import failure_reason
from qzoom.errors import Unavailable

LOOPBACK = "127.0.0.1"


def config(host=LOOPBACK, **app):
    return LocalConfig(AppConfig(model=Path("m"), **app), host=host, port=8000, grpc_port=9000)


@pytest.mark.parametrize(
    ("host", "is_local", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:8000"),
        ("localhost", True, "http://localhost:8000"),
        ("::1", True, "http://[::1]:8000"),
        ("0.0.0.0", False, "http://127.0.0.1:8000"),
        ("192.168.1.5", False, "http://192.168.1.5:8000"),
    ],
)
def test_the_host_decides_who_is_let_in(host, is_local, url):
    assert config(host).is_local_only is is_local
    assert LocalSystem(config(host)).url == url
    assert (
        _for_this_machine(config(host), Path("f")).gateway_settings().local_clients_only is is_local
    )


def test_gateways_listen_themselves_where_that_is_wanted():
    direct = replace(config("0.0.0.0"), is_direct=True)
    settings = _for_this_machine(direct, Path("f")).gateway_settings()
    assert (settings.own_host, settings.own_port) == ("0.0.0.0", 8000)
    assert _for_this_machine(config(), Path("f")).gateway_settings().own_port == 0


def test_services_on_a_gpu_share_it():
    app = _for_this_machine(
        config(device="cuda", rpn={"device": "cpu"}, llm={"gpus": 1.0}), Path("f")
    )
    assert app.gate_settings().gpus == 0.25
    assert app.llm_settings().gpus == 1.0
    assert app.rpn_settings().gpus == 0.0


def test_a_taken_port_is_named():
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"cannot listen on {LOOPBACK}:{port}"):
            check_free(LOOPBACK, port)
    check_free(LOOPBACK, port)


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.delenv("ADDED", raising=False)
    monkeypatch.setenv("HIDDEN", "x")
    with environment({"KEPT": "meanwhile", "ADDED": "1"}, without=("HIDDEN",)):
        assert (os.environ["KEPT"], os.environ["ADDED"]) == ("meanwhile", "1")
        assert "HIDDEN" not in os.environ
    assert (os.environ["KEPT"], os.environ["HIDDEN"]) == ("before", "x")
    assert "ADDED" not in os.environ


def test_the_reason_of_a_failed_start_is_found_in_serves_message():
    message = (
        "The deployment failed to start 1 times in a row. See controller logs. Error:\n"
        'Traceback (most recent call last):\n  File "a.py"\n'
        "qzoom.model.loading.errors.CheckpointError: m lacks lm_head.weight\n"
    )
    assert failure_reason("llm", message) == "the llm service did not start: m lacks lm_head.weight"
    assert failure_reason("llm", "") is None


def test_a_system_has_a_store_of_its_own_unless_it_is_given_one():
    own = _for_this_machine(config(), Path("/folder")).gateway_settings()
    given = _for_this_machine(config(gateway={"store": "redis://host"}), Path("/folder"))

    assert own.store == "sqlite:///folder/store.sqlite3"
    assert given.gateway_settings().store == "redis://host"


def test_stopping_what_never_started_does_nothing():
    LocalSystem(config()).stop()


def test_only_the_processes_of_a_folder_are_ended(tmp_path):
    sleep = "import time; time.sleep(60)"
    own, other = (
        subprocess.Popen([sys.executable, "-c", sleep, str(tmp_path / name)])
        for name in ("own", "other")
    )
    try:
        end_processes_of(tmp_path / "own")
        assert own.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)
