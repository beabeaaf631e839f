"""Web server of `curate view`, on the loopback interface, with access by a one-time token."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from curate.errors import ExternalError, InputError
from curate.report.row_store import RowStore, as_json
from curate.report.run_page import as_page

HOST = "127.0.0.1"
_COOKIE = "curate_view"
_MOST_BODY = 1_000_000
_MOST_NUMBER = 10**12
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ASSETS = {
    "rows.js": "text/javascript",
    "rows.css": "text/css",
    "view.js": "text/javascript",
    "view.css": "text/css",
    "tabulator-6.5.3.min.js": "text/javascript",
    "tabulator-6.5.3.min.css": "text/css",
    "plotly-basic-4.1.1.min.js": "text/javascript",
}


class Access:
    """Access control. token: part of the address, valid once. port: of this server.

    The first request with the token gets a cookie and is redirected to an address without it, so that the token stays
    out of the browser's history and of Referer headers. Every request must have this server as its Host, which prevents
    DNS rebinding, and POST requests must come from this page.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._unused = True

    @property
    def address(self) -> str:
        """The address to open; it works once."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def hosts(self) -> tuple[str, ...]:
        return (f"{HOST}:{self.port}", f"localhost:{self.port}")

    def refusal(self, method: str, host: str, origin: str | None) -> str | None:
        """Why a request is refused, regardless of its cookie; None if it is allowed."""
        if host not in self.hosts():
            return "this server is not called that"
        if origin is None and method == "POST":
            return "the request does not say where it comes from"
        if origin is not None and origin != f"http://{host}":
            return "the request comes from another page"
        return None

    def admits(self, cookie: str | None) -> bool:
        return cookie is not None and hmac.compare_digest(cookie.encode(errors="replace"), self._session.encode())

    def redeem(self, token: str) -> str | None:
        """The cookie in exchange for the token; None for a wrong or used one."""
        if not self._unused or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self._unused = False
        return self._session


def application(store: RowStore, access: Access) -> Any:
    """The starlette application. Raises ExternalError if starlette is missing."""
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import RedirectResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise ExternalError("the page is served with starlette; pip install 'curate-lm[view]'") from error

    def guarded(answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
        async def checked(request: Request) -> Any:
            why = access.refusal(request.method, request.headers.get("host", ""), request.headers.get("origin"))
            if why is not None:
                return Response(why, 403, _HEADERS, "text/plain")
            return await answer(request)

        return checked

    def known(answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
        async def checked(request: Request) -> Any:
            if not access.admits(request.cookies.get(_COOKIE)):
                return Response(
                    "the address was used; stop `curate view` and start it again", 403, _HEADERS, "text/plain"
                )
            return await answer(request)

        return guarded(checked)

    async def page(request: Request) -> Any:
        token = request.query_params.get("token")
        if token is not None:
            cookie = access.redeem(token)
            response = RedirectResponse("/", 303, _HEADERS)
            if cookie is not None:
                response.set_cookie(_COOKIE, cookie, httponly=True, samesite="strict", path="/")
            return response
        if not access.admits(request.cookies.get(_COOKIE)):
            return Response("the address was used; stop `curate view` and start it again", 403, _HEADERS, "text/plain")
        return Response(as_page("view.html.j2", {"name": store.name}), 200, _HEADERS, "text/html")

    async def asset(request: Request) -> Any:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return Response("there is no such file", 404, _HEADERS, "text/plain")
        return Response(_asset(name), 200, _HEADERS, _ASSETS[name])

    async def api(request: Request) -> Any:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BODY:
                    return Response("the request is too long", 413, _HEADERS, "text/plain")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        try:
            answer = await run_in_threadpool(_answer, store, request.path_params["name"], _parsed(bytes(body)))
        except (InputError, ValueError, TypeError) as error:
            return Response(as_json({"error": str(error)}), 400, _HEADERS, "application/json")
        return Response(as_json(answer), 200, _HEADERS, "application/json")

    return Starlette(
        routes=[
            Route("/", guarded(page)),
            Route("/assets/{name}", known(asset)),
            Route("/api/{name}", known(api), methods=["POST"]),
        ]
    )


def _parsed(body: bytes) -> Any:
    """The JSON of a request. Raises InputError if it is none, or nested too deep."""
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError("the request is no JSON") from error


def _number(body: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of a request that a database can count to. Raises InputError for anything else."""
    value = body.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST_NUMBER:
        raise InputError(f"{key} is not a whole number up to {_MOST_NUMBER:,}")
    return value


def _answer(store: RowStore, name: str, body: Any) -> Any:
    """Answer one request of the page. name: of the endpoint. Runs in a thread of the pool."""
    if not isinstance(body, dict):
        raise InputError("the request is no JSON object")
    query = body.get("query") or {}
    if not isinstance(query, dict):
        raise InputError("the query is no JSON object")
    if name == "about":
        return store.about()
    if name == "rows":
        page, size = _number(body, "page", 1), _number(body, "size", 50)
        return store.page(query, page, size, body.get("sort"), bool(body.get("descending")))
    if name == "points":
        return store.points(query)
    if name == "losses":
        return store.losses(query)
    if name == "ids":
        return store.ids(query)
    if name == "row":
        return store.row(_number(body, "n"))
    raise InputError(f"there is no {name}")


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")
