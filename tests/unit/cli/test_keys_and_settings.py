"""`qzoom keys` and `qzoom settings`, on a store of the test, as a user types them."""

import json
import re

import pytest
from typer.testing import CliRunner

from cli.main import app


@pytest.fixture(params=["file", "redis"])
def qzoom(request, tmp_path):
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.flushall()
        address = server.url
    else:
        address = f"sqlite://{tmp_path}/store.sqlite3"

    def run(*args, ok=True):
        env = {"COLUMNS": "160", "NO_COLOR": "1", "QZOOM_GATEWAY_STORE": address}
        done = CliRunner().invoke(app, list(args), env=env)
        assert (done.exit_code == 0) is ok, done.output
        return done

    return run


def test_a_key_is_shown_once_listed_and_revoked(qzoom):
    key = qzoom("keys", "create", "--tenant", "acme", "--name", "laptop").stdout.strip()
    assert re.fullmatch(r"qz-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", key)
    secret = key.split("-", 2)[2]

    listed = qzoom("keys", "list").stdout
    assert f"qz-{key.split('-')[1]}-..." in listed
    assert "acme" in listed
    assert "laptop" in listed
    assert "valid" in listed
    assert secret not in listed

    assert "is revoked" in qzoom("keys", "revoke", key.rsplit("-", 1)[0]).stderr
    assert "revoked" in qzoom("keys", "list").stdout
    [record] = json.loads(qzoom("keys", "list", "--json").stdout)
    assert record["revoked"] > 0
    assert "digest" not in record


def test_a_key_may_be_given_whole_to_revoke_it(qzoom):
    key = qzoom("keys", "create").stdout.strip()

    qzoom("keys", "revoke", key)

    assert json.loads(qzoom("keys", "list", "--json").stdout)[0]["tenant"] == "default"


def test_a_key_may_expire(qzoom):
    qzoom("keys", "create", "--days", "0.5")

    [record] = json.loads(qzoom("keys", "list", "--json").stdout)

    assert record["expires"] - record["created"] == pytest.approx(43_200)


def test_what_is_wrong_with_keys_is_one_line(qzoom):
    assert (
        "tenant 'a b' must be 1 to 63 letters"
        in qzoom("keys", "create", "--tenant", "a b", ok=False).stderr
    )
    assert "there is no key '123'" in qzoom("keys", "revoke", "qz-123-x", ok=False).stderr


def test_settings_are_set_read_listed_and_removed(qzoom):
    assert "nothing is set" in qzoom("settings", "list").stderr
    qzoom("settings", "set", "tau_gate", "0.25")
    qzoom("settings", "set", "limits.acme.requests_per_minute", "60")

    assert qzoom("settings", "get", "tau_gate").stdout.strip() == "0.25"
    assert json.loads(qzoom("settings", "list", "--json").stdout) == {
        "tau_gate": "0.25",
        "limits.acme.requests_per_minute": "60",
    }
    assert "limits.acme.requests_per_minute" in qzoom("settings", "list").stdout

    qzoom("settings", "unset", "tau_gate")
    assert "tau_gate is not set" in qzoom("settings", "get", "tau_gate", ok=False).stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("set", "tau_gate", "2"), "must be a number from 0 to 1"),
        (("set", "limits.acme.concurrency", "many"), "must be a whole number"),
        (("set", "tau", "1"), "there is no setting 'tau', only tau_gate"),
        (("get", "tau"), "there is no setting"),
        (("unset", "limits.acme"), "there is no setting"),
    ],
)
def test_what_is_wrong_with_settings_is_one_line(qzoom, args, words):
    done = qzoom("settings", *args, ok=False)

    assert words in " ".join(done.stderr.split())
    assert done.exit_code == 2


def test_a_store_that_is_not_there_is_one_line(tmp_path):
    done = CliRunner().invoke(
        app, ["keys", "list", "--store", f"unix://{tmp_path}/none.sock"], env={"COLUMNS": "160"}
    )

    assert done.exit_code == 1
    assert "the store does not answer: Redis: ConnectionError" in done.stderr


@pytest.mark.parametrize("address", ["ftp://x", "redis://:secret@host"])
def test_a_wrong_address_is_one_line(address):
    done = CliRunner().invoke(app, ["keys", "list", "--store", address], env={"COLUMNS": "160"})

    assert done.exit_code == 2
    assert "the store" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (("--store", "http://x"), {}, "store: the address of the store begins with 'http'"),
        ((), {"QZOOM_GATEWAY_OIDC_ISSUER": "https://i"}, "oidc_issuer and oidc_audience need"),
        ((), {"QZOOM_GATEWAY_CONCURRENCY": "-1"}, "concurrency: Input should be greater than"),
        ((), {"QZOOM_GATEWAY_TYPO": "1"}, "unknown environment variables: QZOOM_GATEWAY_TYPO"),
    ],
)
def test_serve_says_in_one_line_what_cannot_work(args, env, words):
    done = CliRunner().invoke(app, ["serve", *args], env={"COLUMNS": "200", **env})

    assert done.exit_code == 2
    assert words in done.stderr
