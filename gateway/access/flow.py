"""Around the flow of the method: has this been asked before, may its tenant ask, what did it use?

To the edge it is the flow; what it refuses never reaches the real one.
"""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.access.headers import REPLAYED
from gateway.access.quotas import Place, Quotas
from gateway.access.replays import Attempt, Replays, StoredAnswer
from gateway.access.report import AccessReport
from gateway.events import AnswerFlow, Event, Finished
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import KeyInUse, KeyReused, QZoomError
from qzoom.telemetry.tracing import error_code


class AccessFlow:
    """Answers the requests that may be answered.

    Args:
        flow: Answers them.
        quotas: Lets tenants use what they may.
        replays: Knows answers that were given before.
        report: Counts.
    """

    def __init__(
        self, flow: AnswerFlow, quotas: Quotas, replays: Replays, report: AccessReport
    ) -> None:
        self._flow = flow
        self._quotas = quotas
        self._replays = replays
        self._report = report

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        """Answer one request, or tell its answer again.

        Raises:
            KeyInUse: If a request with its Idempotency-Key is being worked on.
            KeyReused: If its Idempotency-Key belongs to another request.
            QuotaExceeded: If a limit of its tenant is reached.
            QZoomError: From the flow.
        """
        # A client may give two requests the same name; an attempt is unique.
        attempt_id = uuid.uuid4().hex
        attempt = await self._begin(request, attempt_id)
        if attempt.stored is not None:
            self._tell_again(request, attempt.stored)
            for event in attempt.stored.events():
                yield event
            return
        try:
            place = await self._enter(request, attempt_id)
            ending: BaseException | None = None
            try:
                async with aclosing(self._flow.run(request)) as events:
                    async for event in events:
                        await self._saw(attempt, place, request, event)
                        yield event
            except BaseException as error:
                ending = error
                raise
            finally:
                self._report_end(request, place, ending)
                await self._quotas.leave(place, ending)
        finally:
            await self._replays.end(attempt)

    async def _begin(self, request: AnswerRequest, attempt_id: str) -> Attempt:
        try:
            return await self._replays.begin(request, attempt_id)
        except (KeyInUse, KeyReused) as error:
            self._report.keyed("in_use" if isinstance(error, KeyInUse) else "reused")
            self._report.refused(request, error)
            raise

    async def _enter(self, request: AnswerRequest, attempt_id: str) -> Place:
        try:
            return await self._quotas.enter(request, attempt_id)
        except QZoomError as error:
            self._report.refused(request, error)
            raise

    async def _saw(
        self, attempt: Attempt, place: Place, request: AnswerRequest, event: Event
    ) -> None:
        place.saw(event)
        outcome = await self._replays.saw(attempt, request, event)
        if outcome is not None and isinstance(event, Finished):
            self._report.keyed(outcome)

    def _tell_again(self, request: AnswerRequest, stored: StoredAnswer) -> None:
        request.envelope.headers[REPLAYED] = "true"
        request.envelope.request_id = stored.request_id
        request.envelope.received = stored.received
        self._report.replayed(request, stored.started.route)

    def _report_end(
        self, request: AnswerRequest, place: Place, ending: BaseException | None
    ) -> None:
        outcome = "ok" if ending is None else error_code(ending)
        self._report.ended(request.tenant, outcome, place.used(ending))
