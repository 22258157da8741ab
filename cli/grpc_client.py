"""How does a gRPC client ask? With the generated stub, nothing else."""

from typing import Any

import grpc
import numpy as np

from cli.answer import Answered
from cli.console import Failure
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc
from qzoom.telemetry.names import STAGES


def ask_grpc(
    address: str,
    model: str,
    image: bytes,
    question: str,
    options: dict[str, Any],
    max_tokens: int,
    *,
    timeout_s: float,
) -> Answered:
    """Ask one question about one picture.

    Args:
        address: `host:port` of the server.
        model: Name of the model.
        image: The picture's file.
        question: What to ask.
        options: The fields of `Options` but the route, which is a string as over REST.
        max_tokens: Most tokens of the answer.
        timeout_s: Seconds until the question is given up.

    Returns:
        The answer.

    Raises:
        Failure: If the server is not there or refuses the question.
    """
    named = dict(options)
    route = f"ROUTE_{str(named.pop('route', 'auto')).upper()}"
    content = [
        pb.Part(image_url=pb.ImageUrl(data=image)),
        pb.Part(text=question),
    ]
    request = pb.AnswerRequest(
        model=model,
        max_tokens=max_tokens,
        messages=[pb.Message(role=pb.ROLE_USER, content=content)],
        qzoom=pb.Options(route=route, **named),
    )
    with grpc.insecure_channel(address) as channel:
        try:
            reply = qzoom_pb2_grpc.QZoomStub(channel).Answer(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise Failure(f"gRPC: {error.code().name}: {error.details()}", exit_code=1) from None
    return _from_response(reply)


def _from_response(reply: pb.AnswerResponse) -> Answered:
    started, finished = reply.started, reply.finished
    boxes = started.boxes
    heatmap = None
    if started.HasField("heatmap"):
        grid = (started.heatmap.height, started.heatmap.width)
        heatmap = np.array(started.heatmap.values, dtype=np.float32).reshape(grid)
    spent = finished.stage_ms
    return Answered(
        text=reply.text,
        route=pb.Route.Name(started.route).removeprefix("ROUTE_").lower(),
        p_refine=started.p_refine if started.HasField("p_refine") else None,
        tau_gate=started.tau_gate if started.HasField("tau_gate") else None,
        box_px=(boxes[0].x0, boxes[0].y0, boxes[0].x1, boxes[0].y1) if boxes else None,
        box_score=boxes[0].score if boxes else None,
        tokens={
            "coarse": started.visual_tokens.coarse,
            "roi": started.visual_tokens.roi,
            "spared": started.visual_tokens.spared,
        },
        # A protobuf map has no order.
        stage_ms={
            stage.value: (spent[stage.value].queue, spent[stage.value].compute)
            for stage in STAGES
            if stage.value in spent
        },
        heatmap=heatmap,
        trace_id=started.trace_id,
        degraded=finished.degraded,
    )
