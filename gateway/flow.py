"""What happens to one request? The method of the paper, one stage call after the other.

Pictures are decoded and encoded coarsely, layers 1..B and the gate run over the prompt, and the
gate's probability decides: direct, or by way of the RPN and a second, closer look. Then the decoder
answers from the state that was computed on the way (Q-Zoom, Sec. III-B..D).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway import route
from gateway.admission.admission import Admission
from gateway.admission.brownout import relieved
from gateway.admission.cost import predict
from gateway.affinity import affinity_of
from gateway.events import Brownout, Delta, Event, Finished
from gateway.fetch.fetcher import ImageFetcher
from gateway.headstart import HeadStart
from gateway.images.decoded import DecodedImage
from gateway.images.decoder import ImageDecoder
from gateway.memory import PictureMemory
from gateway.reply import Reply
from gateway.stages import Handles, Source, StageCalls
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.stages import Context, Judge, Prefill, Propose, Proposed
from qzoom.contracts.status import ModelFacts
from qzoom.errors import InvalidRequest, QZoomError, StateLost, TooLarge, Unavailable
from qzoom.telemetry.gateway import GatewayTelemetry, RequestTelemetry
from qzoom.telemetry.names import Span

ZOOM_SHARE = 0.5
"""Share of the remaining time that finding and encoding the RoI may take. When it is used up, the
coarse answer is given, while there is time for it."""

MAX_RERUNS = 2
"""How often the stages may run again for one request: two replicas may die under it."""

LOST = (StateLost, Unavailable)
"""A stage died, hangs or goes away. Stages change nothing but what they return, so that they may
run again as long as nothing was sent."""

Result = TypeVar("Result")


class Flow:
    """Answers requests with the stages of one application.

    Args:
        handles: Of the services.
        facts: Tells what the gateway must know about the model.
        fetcher: Turns URLs into files.
        images: Turns files into pixels.
        admission: Lets requests in.
        telemetry: Of this gateway.
        conduct: How stages are called.
        memory: What is kept of pictures; None keeps nothing.
    """

    def __init__(
        self,
        handles: Handles,
        facts: Callable[[], Awaitable[ModelFacts]],
        fetcher: ImageFetcher,
        images: ImageDecoder,
        admission: Admission,
        telemetry: GatewayTelemetry,
        conduct: "Conduct | None" = None,
        memory: PictureMemory | None = None,
    ) -> None:
        self._memory = memory or PictureMemory(0)
        self._handles = handles
        self._facts = facts
        self._fetcher = fetcher
        self._images = images
        self._admission = admission
        self._telemetry = telemetry
        self._conduct = conduct or Conduct()

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        """Answer one request; closing the generator cancels it and frees its state.

        The request waits for its turn, with no more known of its pictures than their headers. What
        dies or hangs with a replica is computed again, as long as nothing was sent: up to the first
        token of a stream, up to the end of an answer that is read as a whole.

        Yields:
            `Started`, then `Delta` as often as needed, then `Finished`.

        Raises:
            QZoomError: Whatever goes wrong, ready to be shown to the caller.
        """
        with self._telemetry.request(
            request.request_id, request.trace, request.model, request.tenant
        ) as telemetry:
            self._admission.check_open()
            if request.is_remote:
                with telemetry.step(Span.IMAGE_FETCH):
                    request = await self._fetcher.fetch(request)
            facts, asked = await self._facts(), request.options
            sizes_px = self._images.sizes(request)
            route.check(asked, facts, len(sizes_px))
            max_tokens = request.sampling.max_tokens
            cost = predict(sizes_px, request.conversation, max_tokens, asked, facts)
            async with self._admission.enter(request, cost, telemetry) as grant:
                options = relieved(asked, facts, grant.level, grant.brownout)
                job = _Job(
                    request,
                    facts,
                    options,
                    route.brownout(grant.level, asked, options),
                    telemetry,
                    by_value=cost.store_bytes <= self._handles.by_value_bytes,
                )
                with telemetry.step(Span.IMAGE_DECODE):
                    pictures = await self._images.decode(request)
                async with aclosing(self._run_again(job, pictures)) as events:
                    async for event in events:
                        yield event

    async def _run_again(
        self, job: "_Job", pictures: Sequence[DecodedImage]
    ) -> AsyncGenerator[Event, None]:
        """Run the stages, and run them again where that is safe."""
        reruns_left, recalls = MAX_RERUNS, True
        while True:
            held: list[Event] = []
            try:
                async with aclosing(self._answer(job, pictures, recalls=recalls)) as events:
                    async for event in events:
                        if job.request.stream:
                            reruns_left = 0
                            yield event
                        else:
                            held.append(event)
                for event in held:
                    yield event
                return
            except LOST:
                if not reruns_left:
                    raise
                reruns_left -= 1
                recalls = False
                job.telemetry.rerun()

    async def _answer(
        self, job: "_Job", pictures: Sequence[DecodedImage], *, recalls: bool
    ) -> AsyncGenerator[Event, None]:
        request, facts, options, telemetry = job.request, job.facts, job.options, job.telemetry
        num_images = len(pictures)
        asks_gate = route.asks_gate(options, facts, num_images)
        is_early = self._conduct.speculates and asks_gate and job.brownout is None
        context = Context(request.request_id, request.deadline, telemetry.headers, request.tenant)
        # A replica that hung when it was asked first shall not be asked again by preference.
        digests = (picture.digest for picture in pictures) if recalls else ()
        with StageCalls(
            self._handles,
            telemetry,
            self._admission.times,
            self._conduct.stage_timeout_s,
            self._memory,
            affinity_of(request.tenant, digests),
            recalls=recalls,
            by_value=job.by_value,
        ) as stages:
            # 1. The whole pictures, coarsely.
            sources = [stages.source(one.pixels, one.digest) for one in pictures]
            budget = options.max_visual_tokens
            coarse = await _all(stages.encode_coarse(context, one, budget) for one in sources)

            # 2. Layers 1..B and the gate, which the RPN need not wait for.
            sizes_px = tuple(picture.size_px for picture in pictures)
            prefill = Prefill(
                context,
                request.conversation,
                images=tuple(reply.message for reply in coarse),
                image_sizes=sizes_px,
                want_gate=asks_gate and not is_early,
            )
            visuals = [buffer for reply in coarse for buffer in reply.buffers]
            prefilled = await stages.prefill(prefill, visuals)
            hurry = _hurried(context)
            ask = Propose(hurry, prefilled.message, options.tau_roi, options.explain)
            async with HeadStart(
                lambda: stages.propose(ask, prefilled.buffers), is_early=is_early
            ) as proposing:
                p_refine = prefilled.message.p_refine
                if is_early:
                    judge = Judge(context, prefilled.message)
                    p_refine = (await stages.judge(judge, prefilled.buffers)).message.p_refine
                decision = route.decide(options, facts, num_images, p_refine)
                telemetry.gate_decided(p_refine, decision.tau_gate, decision.is_open)

                # 3. Zoom: a box from the same state, and its crop from the source picture.
                look = route.Look()
                if decision.is_open:
                    look = await self._look(stages, hurry, options, proposing, sources, telemetry)
                    if not route.fits(look, len(prefilled.message.prompt.ids), facts):
                        too_long = TooLarge("the prompt leaves no room for the RoI")
                        look = _degraded(look, Span.LLM_RESUME, too_long, telemetry)
            tokens = route.visual_tokens(facts, sizes_px, coarse, look)
            allowed = route.budgets(options, facts)
            started = route.started(
                decision, look, tokens, telemetry.trace_id, allowed, job.brownout
            )
            proposal = look.proposed.proposal if look.proposed and look.roi else None
            telemetry.took_route(started.route, proposal)
            telemetry.visual_tokens(coarse=tokens.coarse, roi=tokens.roi, spared=tokens.spared)

            # 4. The layers above B, and the answer.
            message, state = route.resume(request, context, prefilled, coarse, look)
            prompt_tokens = num_drawn = 0
            async with aclosing(stages.answer(message, state)) as answer:
                async for token in answer:
                    if token.prompt_tokens is not None:
                        prompt_tokens = token.prompt_tokens
                        telemetry.first_token()
                        yield started
                    num_drawn += len(token.ids)
                    yield Delta(token.text, len(token.ids), token.ids)
            assert token.finish is not None, "the answer ended without a reason"
            telemetry.answered(
                prompt_tokens=prompt_tokens, output_tokens=num_drawn, finish=token.finish
            )
            yield Finished(
                token.finish, prompt_tokens, num_drawn, dict(stages.stage_ms), look.degraded
            )

    async def _look(
        self,
        stages: StageCalls,
        hurry: Context,
        options: Options,
        proposing: HeadStart[Reply[Proposed]],
        sources: list[Source],
        telemetry: RequestTelemetry,
    ) -> route.Look:
        """Find the region and encode it; a failure costs the detail, not the answer."""
        stage, look = Span.RPN_PROPOSE, route.Look()
        try:
            proposed = (await _twice(proposing.result)).message
            look, stage = route.Look(proposed), Span.ENCODER_ROI
            if proposed.proposal is None:
                return look
            source, budget = sources[proposed.proposal.image], options.max_roi_tokens
            box = proposed.proposal
            roi = await _twice(lambda: stages.encode_roi(hurry, source, box, budget))
            return replace(look, roi=roi)
        except InvalidRequest:
            raise
        except QZoomError as error:
            if isinstance(error, StateLost) and stages.has_recalled:
                raise  # What was kept has died; without it the detail can be had.
            return _degraded(look, stage, error, telemetry)


def _degraded(
    look: route.Look, stage: Span, error: QZoomError, telemetry: RequestTelemetry
) -> route.Look:
    """Give up the detail, and say why."""
    telemetry.degraded(stage, error)
    return replace(look, roi=None, degraded=f"{stage.value}: {error.code}")


@dataclass(frozen=True, slots=True)
class Conduct:
    """How stages are called.

    Attributes:
        stage_timeout_s: Longest wait for a reply, or for the next token.
        speculates: Whether the RPN need not wait for the gate.
    """

    stage_timeout_s: float = 60.0
    speculates: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """What is known of a request once it was admitted.

    Attributes:
        request: As it came.
        facts: Of the model.
        options: The request's, with what brown-out fills in.
        brownout: What that was.
        telemetry: Of the request.
        by_value: Whether its state travels inside messages.
    """

    request: AnswerRequest
    facts: ModelFacts
    options: Options
    brownout: Brownout | None
    telemetry: RequestTelemetry
    by_value: bool


def _hurried(context: Context) -> Context:
    """Leave time for the coarse answer."""
    now = time.time()
    return replace(context, deadline=now + ZOOM_SHARE * (context.deadline - now))


async def _twice(call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Call a stage, and again if its replica died: what it reads belongs to the gateway."""
    try:
        return await call()
    except StateLost:
        return await call()


async def _all(calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run calls together; the first failure cancels the others and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
