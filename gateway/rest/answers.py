"""How does an answer look over REST? OpenAI's objects, with a `qzoom` object beside."""

from typing import Any

from gateway.edge import Answer
from gateway.events import Finished, HeatMap, Started
from qzoom.contracts.request import AnswerRequest

Json = dict[str, Any]
HEATMAP_DECIMALS = 4


def head_object(request: AnswerRequest) -> Json:
    """Build `id`, `created` and `model`: of the request whose answer it is, see `Envelope`."""
    return {
        "id": f"chatcmpl-{request.envelope.request_id}",
        "created": int(request.envelope.received),
        "model": request.model,
    }


def started_object(started: Started) -> Json:
    """Build the part of the `qzoom` object that is known when decoding begins."""
    tokens = started.visual_tokens
    known: Json = {
        "route": started.route,
        "p_refine": started.p_refine,
        "tau_gate": started.tau_gate,
        "boxes": [
            {"image": region.image, "box": list(region.box_px), "score": region.score}
            for region in started.regions
        ],
        "visual_tokens": {"coarse": tokens.coarse, "roi": tokens.roi, "spared": tokens.spared},
        "budgets": {
            "max_visual_tokens": started.budgets.coarse,
            "max_roi_tokens": started.budgets.roi,
        },
        "brownout": None,
        "trace_id": started.trace_id,
    }
    if started.brownout is not None:
        shed = started.brownout
        known["brownout"] = {"level": shed.level, "changed": list(shed.changed)}
    if started.heatmap is not None:
        known["heatmap"] = _heatmap_object(started.heatmap)
    return known


def finished_object(finished: Finished) -> Json:
    """Build the part of the `qzoom` object that is known at the end."""
    return {
        "stage_ms": {
            stage: {"queue": round(ms.queue, 3), "compute": round(ms.compute, 3)}
            for stage, ms in finished.stage_ms.items()
        },
        "degraded": finished.degraded,
    }


def usage_object(finished: Finished) -> Json:
    """Build OpenAI's `usage`; visual tokens count as prompt tokens."""
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


def completion_object(answer: Answer, head: Json) -> Json:
    """Build a whole `chat.completion`.

    Args:
        answer: What the flow gave.
        head: `id`, `created` and `model`.
    """
    return head | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": None,
                "finish_reason": answer.finished.finish_reason,
            }
        ],
        "usage": usage_object(answer.finished),
        "qzoom": started_object(answer.started) | finished_object(answer.finished),
    }


def chunk_object(head: Json, delta: Json, finish_reason: str | None = None) -> Json:
    """Build a `chat.completion.chunk` with one choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return head | {"object": "chat.completion.chunk", "choices": [choice]}


def usage_chunk_object(head: Json, finished: Finished) -> Json:
    """Build the chunk without choices that `stream_options.include_usage` asks for."""
    usage = usage_object(finished)
    return head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}


def _heatmap_object(heatmap: HeatMap) -> Json:
    height, width = heatmap.values.shape
    rows = [[round(float(value), HEATMAP_DECIMALS) for value in row] for row in heatmap.values]
    return {"image": heatmap.image, "grid": [height, width], "values": rows}
