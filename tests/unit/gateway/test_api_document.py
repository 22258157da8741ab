"""docs/api.md says what the code does: fields, errors, limits."""

import dataclasses
import itertools
import json
import re
import runpy
from pathlib import Path

import pytest
import torch

from gateway.admission.brownout import BrownoutBounds
from gateway.describe import described
from gateway.fetch.download import MAX_REDIRECTS
from gateway.fetch.fetcher import FetchLimits
from gateway.images.limits import ImageLimits
from gateway.rest.body import MAX_VALUES
from gateway.rest.fields import IGNORED, NEUTRAL
from gateway.rpc.upload import MAX_CHUNKS
from gateway.settings import GatewaySettings
from qzoom import errors
from qzoom.builtin import builtin_model
from qzoom.contracts.request import MAX_URL_CHARS, Limits, MethodOptions, RequestBody
from qzoom.model.loading import open_checkpoint
from qzoom.pb import qzoom_pb2
from services.gate.facts import model_facts
from services.llm.settings import LlmSettings

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


def vars_of(limits: Limits | ImageLimits) -> dict[str, float]:
    return dataclasses.asdict(limits)


def test_every_limit_is_in_the_table():
    fetching = FetchLimits()
    defaults = vars_of(Limits()) | vars_of(ImageLimits())
    defaults |= {"fetch_timeout_s": fetching.timeout_s, "max_fetches": fetching.max_running}
    # The first token of the answer needs a place too.
    defaults |= {"max_len": LlmSettings.model_fields["max_len"].default - 1}
    said: dict[str, str] = {}
    for row in rows("Limits"):
        values = re.findall(r"\d+", row[1])
        names = re.findall(r"`(\w+)`", row[3])
        assert len(values) == max(1, len(names)), row
        said |= dict(zip(names, values, strict=False))
    assert said == {name: f"{value:.0f}" for name, value in defaults.items()}
    assert set(said) - {"max_len"} <= set(GatewaySettings.model_fields)
    without_setting = {row[1] for row in rows("Limits") if not row[3]}
    fixed = (MAX_VALUES, MAX_CHUNKS, MAX_URL_CHARS, MAX_REDIRECTS, 256)
    assert without_setting == {str(value) for value in fixed}
    method = section("The `qzoom` object of a request")
    for name in ("default_deadline_ms", "max_deadline_ms", "max_visual_tokens"):
        assert said[name] in method
    assert f"Default {said['default_max_tokens']}" in section("Fields of OpenAI")


async def test_the_example_of_a_model_is_the_built_in_one():
    facts = model_facts(open_checkpoint(builtin_model()), torch.float32)

    async def known():
        return facts

    _, _, after = TEXT.partition("`qzoom` object of a model")
    (example,) = re.findall(r"```json\n(.*?)```", after, re.DOTALL)[:1]
    assert json.loads(example) == await described(known, BrownoutBounds())


def test_every_field_of_the_contract_is_described():
    proto = (ROOT / "proto" / "qzoom.proto").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in itertools.pairwise(proto)
        if re.match(r"\s+(?!oneof|option|reserved)[\w.<>, ]+ = \d+;", line)
        and not before.strip().startswith("//")
    ]
    assert not bare
