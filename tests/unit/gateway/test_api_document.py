"""docs/api.md says what the code does: fields, errors, limits."""

import itertools
import re
import runpy
from pathlib import Path

import pytest

from gateway.pixels import ImageLimits
from gateway.rest.body import MAX_VALUES
from gateway.rest.fields import IGNORED, NEUTRAL
from gateway.rpc.upload import MAX_CHUNKS
from qzoom import errors
from qzoom.contracts.request import Limits, MethodOptions, RequestBody
from qzoom.pb import qzoom_pb2

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "api.md").read_text()


def section(title: str) -> str:
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def test_the_generated_parts_are_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "api_document.py"))
    assert script["write"](TEXT) == TEXT, "run scripts/api_document.py"


def test_every_field_of_openai_is_in_the_table():
    table = {name: row[1] for row in rows("Fields of OpenAI") for name in named(row[0])}
    honoured = {name for name, says in table.items() if says.startswith(("honoured", "ours"))}
    ignored = {name for name, says in table.items() if says == "ignored"}
    neutral = {name for name, says in table.items() if says.startswith(("accepted", "refused"))}
    assert honoured == set(RequestBody.model_fields)
    assert ignored == set(IGNORED)
    assert neutral == set(NEUTRAL)
    assert {name for name in neutral if table[name] == "refused by name"} == {
        name for name, values in NEUTRAL.items() if not values
    }


def test_every_choice_about_the_method_is_in_the_table():
    names = {name for row in rows("The `qzoom` object of a request") for name in named(row[0])}
    assert names == set(MethodOptions.model_fields)
    assert names == {field.name for field in qzoom_pb2.Options.DESCRIPTOR.fields}


@pytest.mark.parametrize(
    "kind",
    [errors.QZoomError, *errors.QZoomError.__subclasses__()],
    ids=lambda kind: kind.__name__,
)
def test_every_error_is_in_the_table(kind):
    expected = [f"`{kind.code}`", str(kind.http_status), f"`{kind.grpc_code}`"]
    assert expected in [row[:3] for row in rows("Errors")]


def test_every_limit_is_in_the_table():
    said = {re.match(r"[\d.]+", row[1])[0] for row in rows("Limits")}
    limits, images = Limits(), ImageLimits()
    for value in (
        limits.max_body_bytes,
        limits.max_body_s,
        limits.max_image_bytes,
        limits.max_images,
        limits.max_messages,
        limits.max_prompt_chars,
        limits.max_tokens,
        images.max_pixels,
        images.max_request_pixels,
        images.max_side_px,
        images.max_aspect_ratio,
        images.decode_timeout_s,
        MAX_VALUES,
        MAX_CHUNKS,
    ):
        assert f"{value:.0f}" in said, value
    method = section("The `qzoom` object of a request")
    for value in (limits.default_deadline_ms, limits.max_deadline_ms, limits.max_visual_tokens):
        assert str(value) in method
    assert f"Default {limits.default_max_tokens}" in section("Fields of OpenAI")


def test_every_field_of_the_contract_is_described():
    proto = (ROOT / "proto" / "qzoom.proto").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in itertools.pairwise(proto)
        if re.match(r"\s+(?!oneof|option|reserved)[\w.<>, ]+ = \d+;", line)
        and not before.strip().startswith("//")
    ]
    assert not bare
