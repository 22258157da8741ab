"""Which HTTP paths does a gateway answer? All of REST, put together as one FastAPI application."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.edge import Edge
from gateway.history import SPAN_S
from gateway.rest.authentication import Authentication, caller_of
from gateway.rest.chat import chat_endpoint
from gateway.rest.errors import error_response
from gateway.rest.head import HeadAsGet
from gateway.rest.openapi import CHAT_OPENAPI, add_request_schema, number_query
from gateway.rest.request_id import RequestIdHeader
from gateway.web.pages import add_pages
from qzoom.errors import InvalidRequest, NotFound, QZoomError

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_TRACES = 1000


@dataclass(frozen=True, slots=True)
class Probes:
    """What the gateway can be asked about itself; each is a function of the deployment.

    Attributes:
        model: Describes what the model does where a request leaves it open; None while the service
            that knows it does not answer.
        ready: Describes the stages; raises `Unavailable` while one of them is missing.
        metrics: Gives Prometheus text, summed over all gateways.
        trace: Finds the waterfall of a recent request, of one tenant alone unless that is None;
            raises `NotFound`.
        traces: Lists the newest requests, at most as many as asked for, of one tenant or all.
        stats: Sums up the seconds before now, as many as asked for; 0 means since the start.
    """

    model: Callable[[], Awaitable[dict[str, Any] | None]]
    ready: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], Awaitable[str]]
    trace: Callable[[str, str | None], Awaitable[dict[str, Any]]]
    traces: Callable[[int, str | None], Awaitable[list[dict[str, Any]]]]
    stats: Callable[[float], Awaitable[dict[str, Any]]]


def create_app(edge: Edge, probes: Probes, *, behind_serve: bool) -> FastAPI:
    """Build the application.

    Args:
        edge: Answers questions.
        probes: Answers questions about the gateway.
        behind_serve: Whether Ray Serve's proxy, which writes the request id into every response,
            stands in front.
    """
    app = FastAPI(
        title="Q-Zoom Serve",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere.
        redoc_url=None,
        redirect_slashes=False,  # A redirect would quote the Host that a stranger sends.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # `gateway.request` is the trace's root.
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(Authentication, identify=edge.identify)
    app.add_middleware(RequestIdHeader, written_upstream=behind_serve)
    app.add_api_route(
        "/v1/chat/completions",
        chat_endpoint(edge),
        methods=["POST"],
        response_class=JSONResponse,
        response_model=None,
        openapi_extra=CHAT_OPENAPI,
    )
    _add_models(app, edge, probes)
    _add_probes(app, probes)
    add_pages(app)
    _add_error_handlers(app, edge)
    add_request_schema(app)
    return app


def _add_models(app: FastAPI, edge: Edge, probes: Probes) -> None:
    models = {
        name: {"id": name, "object": "model", "created": int(edge.started), "owned_by": "qzoom"}
        for name in edge.models
    }

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """List the models that are served."""
        told = await probes.model()
        return {"object": "list", "data": [one | {"qzoom": told} for one in models.values()]}

    @app.get("/v1/models/{name}")
    async def get_model(name: str) -> dict[str, Any]:
        """Describe one model."""
        if name not in models:
            raise NotFound(f"model {name[:80]!a} is not served here", param="model")
        return models[name] | {"qzoom": await probes.model()}


def _add_probes(app: FastAPI, probes: Probes) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tell that this process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """Tell whether questions can be answered now."""
        return await probes.ready()

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Give Prometheus metrics, summed over all gateways."""
        return Response(await probes.metrics(), media_type=METRICS_MEDIA_TYPE)

    @app.get("/v1/traces")
    async def list_traces(
        request: Request,
        limit: Annotated[str, number_query(1, MAX_TRACES, 50)] = "50",
    ) -> dict[str, Any]:
        """List recent requests, the newest first."""
        number = _number("limit", limit, 1, MAX_TRACES)
        return {"object": "list", "data": await probes.traces(number, caller_of(request).sees)}

    @app.get("/v1/traces/{trace_id}")
    async def get_trace(request: Request, trace_id: str) -> dict[str, Any]:
        """Give the waterfall of a recent request, by its trace id or request id."""
        return await probes.trace(trace_id, caller_of(request).sees)

    @app.get("/v1/stats")
    async def get_stats(
        window: Annotated[str, number_query(0, round(SPAN_S), 300)] = "300",
    ) -> dict[str, Any]:
        """Sum up the last seconds of all gateways: routes, latencies, gate, tokens, replicas."""
        return await probes.stats(_number("window", window, 0, round(SPAN_S)))


def _number(name: str, text: str, least: int, most: int) -> int:
    """Read a number of the query string."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= 9
    if not is_number or not least <= int(text) <= most:
        raise InvalidRequest(
            f"{name} is {text[:20]!a}, must be a number from {least} to {most}", param=name
        )
    return int(text)


def _add_error_handlers(app: FastAPI, edge: Edge) -> None:
    async def known(_request: Request, error: Exception) -> Response:
        assert isinstance(error, QZoomError)
        return error_response(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = NotFound if error.status_code == 404 else InvalidRequest
        what = "has no such path" if error.status_code == 404 else "does not take this method"
        response = error_response(
            # Not request.url, which is built from the Host header and need not be one.
            kind(f"{request.method} {request.scope['path'][:200]!a}: the server {what}")
        )
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    async def unknown(request: Request, error: Exception) -> Response:
        return error_response(edge.explain(error, request.headers.get("x-request-id", "unknown")))

    app.add_exception_handler(QZoomError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unknown)
