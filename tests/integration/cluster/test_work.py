"""Nothing is recomputed in secret: (token, layer) pairs by service; who holds which weights.

Counted with trimming off, so that the numbers are exactly those of the method. Every test has
pictures of its own, of which nothing is known yet.
"""

from collections import Counter

import httpx
import pytest

from qzoom.model.loading import open_checkpoint

pytestmark = pytest.mark.cluster
TIMEOUT_S = 60.0
NUM_DELIMITERS = 2  # vision_start and vision_end around the RoI


@pytest.fixture(scope="module")
def depths(cluster):
    """B, L, gate depth and RPN depth of the model."""
    checkpoint = open_checkpoint(cluster.checkpoint)
    config = checkpoint.qzoom
    total = checkpoint.hf_config.get_text_config().num_hidden_layers
    return config.split_layer, total, config.gate_depth, config.rpn_depth


@pytest.fixture
def worked(flow, cluster, body):
    """Ask one question and return the answer and what each service computed for it."""

    async def ask(**method):
        before = await work(flow.handles)
        response = httpx.post(
            f"{cluster.url}/v1/chat/completions", json=body(**method), timeout=TIMEOUT_S
        )
        assert response.status_code == 200, response.text
        after = await work(flow.handles)
        return response.json(), {name: after[name] - before[name] for name in after}

    return ask


async def work(handles):
    """Pairs by stack, summed over the layers."""
    totals = {}
    for name in ("gate", "rpn", "llm"):
        pairs = await getattr(handles, name).options(_by_reference=True).work.remote()
        totals[name] = Counter()
        for (stack, _), count in pairs.items():
            totals[name][stack] += count
    return totals


async def test_the_direct_route_runs_each_layer_once(worked, depths):
    split, total, gate_depth, _ = depths
    answer, done = await worked(seed=101, route="auto", tau_gate=1.0)
    prompt, drawn = answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]
    assert answer["qzoom"]["route"] == "direct"
    assert done["gate"] == {"lower": prompt * split, "gate": prompt * gate_depth}
    assert done["rpn"] == {}
    assert done["llm"] == {"upper": prompt * (total - split), "decode": (drawn - 1) * total}


async def test_the_zoom_route_reuses_the_prefix(worked, depths):
    split, total, gate_depth, rpn_depth = depths
    answer, done = await worked(seed=102, route="auto", tau_gate=0.0, tau_roi=0.05)
    prompt, drawn = answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]
    tokens = answer["qzoom"]["visual_tokens"]
    assert answer["qzoom"]["route"] == "zoom"
    inserted = tokens["roi"] + NUM_DELIMITERS
    coarse = prompt - inserted
    assert done["gate"] == {"lower": coarse * split, "gate": coarse * gate_depth}
    assert done["rpn"] == {"rpn": coarse * (rpn_depth - 1)}
    tail, rest = divmod(done["llm"].pop("lower"), split)
    # The tail is the source's vision_end, the RoI block and the question; no picture token.
    assert rest == 0
    assert inserted < tail < prompt - tokens["coarse"]
    assert done["llm"] == {"upper": prompt * (total - split), "decode": (drawn - 1) * total}


async def test_a_given_route_does_not_ask_the_gate(worked):
    _, direct = await worked(seed=103, route="direct")
    _, zoom = await worked(seed=103, route="zoom", tau_roi=0.05)
    assert "gate" not in direct["gate"]
    assert "gate" not in zoom["gate"]


def test_each_service_holds_exactly_its_own_parameters(cluster):
    checkpoint = open_checkpoint(cluster.checkpoint)
    total = checkpoint.hf_config.get_text_config().num_hidden_layers
    embeddings, layers = "model.language_model.embed_tokens", "model.language_model.layers."
    own = {
        "encoder": ["model.visual"],
        "gate": [
            embeddings,
            "qzoom.gate",
            *(f"{layers}{i}" for i in range(checkpoint.qzoom.split_layer)),
        ],
        "rpn": ["qzoom.rpn"],
        "llm": [
            embeddings,
            "model.language_model.norm",
            "lm_head",
            *(f"{layers}{i}" for i in range(total)),
        ],
    }
    held = {status["service"]: status["parameters"] for status in cluster.ready["services"]}
    expected = {
        service: sum(tensor.numel() for tensor in checkpoint.tensors(names).values())
        for service, names in own.items()
    }
    assert held == expected
