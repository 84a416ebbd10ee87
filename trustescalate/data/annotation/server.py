"""Serve the local annotation page on the loopback interface, behind a random token.

Every path begins with the token, so there is no cookie for another local server to receive, and no request
for another site to forge. A request without it, for another host, or from another site gets an empty 404.
Answers are written as they come (`AnswerFile`); a killed server loses nothing. A request has `SECONDS` to
arrive, and at most `MOST_OPEN` connections are open, of which a further one replaces the oldest.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from importlib import resources
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion10, HttpVersion11

from trustescalate.data.annotation.answers import AnswerFile
from trustescalate.data.annotation.queue import Queue
from trustescalate.data.annotation.session import AnnotationSession
from trustescalate.errors import UsageError
from trustescalate.records.jsonl import canonical

LOOPBACK = "127.0.0.1"
MOST_BYTES = 16_384
SECONDS = 10.0
MOST_OPEN = 64
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "trustescalate",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "texts.js": ("texts.js", "text/javascript"),
    "diff.js": ("diff.js", "text/javascript"),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Serving(NamedTuple):
    """The address of the page while it is served."""

    url: str
    rows: int
    queue: str


async def serve(queue: Queue, *, port: int = 0, ready: Callable[[Serving], None]) -> None:
    """Serve a queue until cancelled. `ready` receives the address; port 0 takes a free one.

    Raises UsageError where the queue is being served already, OSError where the port is taken.
    """
    with AnswerFile(queue.folder) as answers, socket.create_server((LOOPBACK, port)) as listening:
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        runner = web.AppRunner(
            application(AnnotationSession(queue, answers), token, port),
            access_log=None,
            logger=_quiet_log(),
            keepalive_timeout=SECONDS,
            lingering_time=1,
            shutdown_timeout=1,
        )
        await runner.setup()
        try:
            server = await asyncio.get_running_loop().create_server(_door(runner), sock=listening)
            ready(Serving(f"http://{LOOPBACK}:{port}/{token}/", len(queue.asked), queue.header.id))
            try:
                await asyncio.Event().wait()
            finally:
                server.close()
        finally:
            await runner.cleanup()


def _door(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Make the handler of a new connection; close the oldest ones above the limit."""
    server = runner.server
    assert server is not None

    def open_one() -> asyncio.Protocol:
        for oldest in server.connections[: 1 - MOST_OPEN]:
            oldest.force_close()
        return server()

    return open_one


def _quiet_log() -> logging.Logger:
    """A log of faults of ours alone: a request that is no HTTP is the client's, and answered with 400."""
    log = logging.getLogger(__name__)
    log.addFilter(_is_ours)
    return log


def _is_ours(record: logging.LogRecord) -> bool:
    fault = record.exc_info[1] if isinstance(record.exc_info, tuple) else record.exc_info
    return not isinstance(fault, HttpProcessingError | OSError)


def application(session: AnnotationSession, token: str, port: int) -> web.Application:
    """The page and its API, behind `token`, for requests to this host and port."""
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[_guard(token, port)])
    app[SESSION] = session
    app.add_routes(
        [
            web.get("/{token}/api/task", _task),
            web.get(r"/{token}/api/row/{row:\d{1,9}}", _row),
            web.post("/{token}/api/start", _start),
            web.post("/{token}/api/answer", _answer),
            web.post("/{token}/api/draft", _draft),
            web.post("/{token}/api/undo", _undo),
            web.post("/{token}/api/agreement", _agreement),
            web.get("/{token}/{name:[a-z.]*}", _file),
        ]
    )
    return app


SESSION = web.AppKey("session", AnnotationSession)


def _guard(token: str, port: int) -> Any:
    hosts = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}

    def is_ours(request: web.Request) -> bool:
        given = request.path.removeprefix("/").partition("/")[0]
        known = compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
        origin = request.headers.get("Origin")
        return (
            known
            and request.host in hosts
            and (origin is None or origin in {f"http://{host}" for host in hosts})
            and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
            and (request.method == "GET" or request.content_type == "application/json")
        )

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse = web.Response(status=404)
        if request.version not in (HttpVersion10, HttpVersion11):
            response = web.Response(status=400)
        elif is_ours(request):
            try:
                response = await handler(request)
            except web.HTTPException as refused:
                response = web.Response(status=refused.status)
            except UsageError as error:
                response = _json({"error": error.message}, status=400)
            except OSError as error:
                response = _json({"error": f"not saved: {error.strerror}"}, status=500)
        response.headers.update(HEADERS)
        return response

    return guarded


# ── the page and its API ───────────────────────────────────────────────────────────────────────────


async def _file(request: web.Request) -> web.StreamResponse:
    if request.match_info["name"] not in FILES:
        raise web.HTTPNotFound
    name, kind = FILES[request.match_info["name"]]
    data = resources.files("trustescalate.data.annotation").joinpath(name).read_bytes()
    return web.Response(body=data, content_type=kind, charset="utf-8")


async def _task(request: web.Request) -> web.StreamResponse:
    return _json(request.app[SESSION].task())


async def _row(request: web.Request) -> web.StreamResponse:
    return _json(request.app[SESSION].row(int(request.match_info["row"])))


async def _start(request: web.Request) -> web.StreamResponse:
    body = await _parse_body(request, annotator=str)
    return _json(request.app[SESSION].start(body["annotator"]))


async def _answer(request: web.Request) -> web.StreamResponse:
    seconds, reason = (int, float, type(None)), (str, type(None))
    body = await _parse_body(request, annotator=str, row=int, answer=str, seconds=seconds, reason=reason)
    session = request.app[SESSION]
    return _json(session.answer(*(body[key] for key in ("annotator", "row", "answer", "seconds", "reason"))))


async def _draft(request: web.Request) -> web.StreamResponse:
    body = await _parse_body(request, annotator=str, row=int, text=str)
    return _json(request.app[SESSION].draft(body["annotator"], body["row"], body["text"]))


async def _undo(request: web.Request) -> web.StreamResponse:
    body = await _parse_body(request, annotator=str)
    return _json(request.app[SESSION].undo(body["annotator"]))


async def _agreement(request: web.Request) -> web.StreamResponse:
    body = await _parse_body(request, annotator=str)
    return _json(request.app[SESSION].agreement(body["annotator"]))


async def _parse_body(request: web.Request, **kinds: Any) -> dict[str, Any]:
    """Parse the body: an object with exactly these keys, each of its type; `reason` may be missing."""
    try:
        async with asyncio.timeout(SECONDS):
            body = await request.json()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, LookupError, RuntimeError, web.RequestPayloadError):  # also a body cut off
        raise UsageError("not JSON") from None
    if isinstance(body, dict) and "reason" in kinds:
        body.setdefault("reason", None)
    if not isinstance(body, dict) or body.keys() != kinds.keys():
        raise UsageError(f"an object with {', '.join(kinds)} is wanted")
    for key, kind in kinds.items():
        if not isinstance(body[key], kind) or isinstance(body[key], bool):
            raise UsageError(f"{key} is of the wrong kind")
    return body


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(text=canonical(value), status=status, content_type="application/json")
