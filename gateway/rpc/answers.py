"""From the flow's events to gRPC messages."""

from gateway.edge import Answer
from gateway.events import Delta, Event, Finished, HeatMap, Region, Started
from qzoom.contracts.request import AnswerRequest
from qzoom.pb import qzoom_pb2 as pb

_ROUTES = {"direct": pb.ROUTE_DIRECT, "zoom": pb.ROUTE_ZOOM}
_FINISH = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


def answer_message(answer: Answer, request: AnswerRequest) -> pb.AnswerResponse:
    """Build a whole answer."""
    return pb.AnswerResponse(
        request_id=request.envelope.request_id,
        model=request.model,
        text=answer.text,
        started=_started(answer.started, request.envelope.request_id),
        finished=_finished(answer.finished),
    )


def event_message(event: Event, request_id: str) -> pb.AnswerEvent:
    """Build one event of a stream."""
    match event:
        case Started():
            return pb.AnswerEvent(started=_started(event, request_id))
        case Delta():
            return pb.AnswerEvent(delta=pb.Delta(text=event.text, num_tokens=event.num_tokens))
        case Finished():
            return pb.AnswerEvent(finished=_finished(event))


def _started(started: Started, request_id: str) -> pb.Started:
    tokens = started.visual_tokens
    return pb.Started(
        request_id=request_id,
        route=_ROUTES[started.route],
        p_refine=started.p_refine,
        tau_gate=started.tau_gate,
        boxes=[_region(region) for region in started.regions],
        visual_tokens=pb.VisualTokens(coarse=tokens.coarse, roi=tokens.roi, spared=tokens.spared),
        trace_id=started.trace_id,
        budgets=pb.Budgets(
            max_visual_tokens=started.budgets.coarse, max_roi_tokens=started.budgets.roi
        ),
        brownout=None
        if started.brownout is None
        else pb.Brownout(level=started.brownout.level, changed=started.brownout.changed),
        heatmap=None if started.heatmap is None else _heatmap(started.heatmap),
    )


def _region(region: Region) -> pb.Region:
    x0, y0, x1, y1 = region.box_px
    return pb.Region(image=region.image, x0=x0, y0=y0, x1=x1, y1=y1, score=region.score)


def _heatmap(heatmap: HeatMap) -> pb.HeatMap:
    height, width = heatmap.values.shape
    values = heatmap.values.ravel().tolist()
    return pb.HeatMap(image=heatmap.image, height=height, width=width, values=values)


def _finished(finished: Finished) -> pb.Finished:
    return pb.Finished(
        finish_reason=_FINISH[finished.finish_reason],
        prompt_tokens=finished.prompt_tokens,
        completion_tokens=finished.completion_tokens,
        stage_ms={
            stage: pb.StageTime(queue=ms.queue, compute=ms.compute)
            for stage, ms in finished.stage_ms.items()
        },
        degraded=finished.degraded,
    )
