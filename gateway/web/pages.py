"""Which pages does the gateway serve, and how safely? All files are its own, read at the start.

Nothing of a page comes from elsewhere, and nothing that a visitor, a client or the model writes is
ever run: the policy allows this server's scripts only, and no text becomes HTML (Trusted Types).
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from qzoom.errors import NotFound

ASSETS = Path(__file__).parent / "assets"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    # Kept by the browser, but asked about: a new version shows at once.
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
PAGES = {"/": "playground.html", "/dashboard": "dashboard.html", "/favicon.ico": "icon.svg"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent.

    Attributes:
        content: Its bytes.
        headers: Type, entity tag and everything of `HEADERS`.
    """

    content: bytes
    headers: dict[str, str]

    def response(self, known_tags: str) -> Response:
        """Send it, or say that the browser's copy is the same.

        Args:
            known_tags: The request's `if-none-match`; empty if it has none.
        """
        if self.headers["etag"] in (
            tag.strip().removeprefix("W/") for tag in known_tags.split(",")
        ):
            return Response(status_code=304, headers=_without_type(self.headers))
        return Response(self.content, headers=self.headers)


def load_assets(folder: Path = ASSETS) -> dict[str, Asset]:
    """Read every file below a folder; the key is its path there, such as `examples/a.png`."""
    return {
        path.relative_to(folder).as_posix(): _asset(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }


def add_pages(app: FastAPI) -> None:
    """Serve the pages and their files. They need no API key: what they show, they must ask for."""
    assets = load_assets()

    def page(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            return _respond(asset, request)

        return respond

    async def file(request: Request) -> Response:
        # A look-up, no file system: there is no path to escape from.
        asset = assets.get(request.path_params["name"])
        if asset is None:
            raise NotFound(f"there is no file {request.path_params['name'][:80]!a}")
        return _respond(asset, request)

    for path, name in PAGES.items():
        app.add_route(path, page(assets[name]), methods=["GET"], include_in_schema=False)
    app.add_route("/web/{name:path}", file, methods=["GET"], include_in_schema=False)


def _respond(asset: Asset, request: Request) -> Response:
    return asset.response(request.headers.get("if-none-match", ""))


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:32]
    own = {"content-type": MEDIA_TYPES[path.suffix], "etag": f'"{tag}"'}
    return Asset(content, HEADERS | own)


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "content-type"}
