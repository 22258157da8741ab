"""Runtime settings: names, ranges, and what follows for a tenant."""

import pytest

from qzoom.errors import InvalidRequest, NotFound
from qzoom.store.limits import TenantLimits
from qzoom.store.runtime import RuntimeSettings, check, obey

INITIAL = RuntimeSettings(None, TenantLimits(requests_per_minute=100))


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("tau_gate", "0.25", "0.25"),
        ("tau_gate", "1", "1.0"),
        ("limits.concurrency", "8", "8"),
        ("limits.acme.requests_per_minute", "007", "7"),
        ("limits.acme.visual_tokens_per_minute", "none", "none"),
    ],
)
def test_a_setting_is_checked_and_written_plainly(name, value, kept):
    assert check(name, value) == kept


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("tau_gate", "1.01", InvalidRequest),
        ("tau_gate", "nan", InvalidRequest),
        ("tau_gate", "high", InvalidRequest),
        ("limits.concurrency", "-1", InvalidRequest),
        ("limits.concurrency", "1.5", InvalidRequest),
        ("limits.concurrency", "9" * 30, InvalidRequest),
        ("limits.concurrency", "", InvalidRequest),
        ("limits.concurrency", "\N{SUPERSCRIPT TWO}", InvalidRequest),
        ("limits.-acme.concurrency", "1", InvalidRequest),
        ("limits.acme.more.concurrency", "1", NotFound),
        ("limits.acme", "1", NotFound),
        ("tau", "1", NotFound),
        ("", "1", NotFound),
    ],
)
def test_nonsense_is_refused_by_name(name, value, kind):
    with pytest.raises(kind) as caught:
        check(name, value)
    assert name.removeprefix("limits.")[:5] in caught.value.message


def test_without_settings_everything_is_as_it_was_started():
    assert obey({}, INITIAL) == INITIAL
    assert obey({}, INITIAL).limits("anybody") == INITIAL.default_limits


def test_what_is_written_wins_and_the_rest_stays():
    settings = obey(
        {
            "tau_gate": "0.75",
            "limits.concurrency": "4",
            "limits.acme.requests_per_minute": "none",
            "limits.acme.generated_tokens_per_minute": "1000",
        },
        INITIAL,
    )

    assert settings.tau_gate == 0.75
    assert settings.limits("anybody") == TenantLimits(requests_per_minute=100, concurrency=4)
    assert settings.limits("acme") == TenantLimits(generated_tokens_per_minute=1000, concurrency=4)


def test_what_another_version_wrote_is_left_out():
    assert obey({"new.thing": "1", "tau_gate": "?", "limits.x.y": "2"}, INITIAL) == INITIAL
