"""The server of the page: its files, what it may know of the runs, and the analysis of a recording.

Nothing that is sent here is kept, and no answer holds a path of this machine.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.inference.model import Model
from emoshare.inference.page.analysis import Check, analyse, peaks
from emoshare.inference.page.guard import LOOPBACK, Guard
from emoshare.inference.page.turns import Refused, Turns
from emoshare.inference.page.upload import MAX_MB, MAX_SECONDS, decode, file_name, receive, without_places
from emoshare.inference.recording import check_windows
from emoshare.models.head import Head

log = logging.getLogger("emoshare")
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
CONNECTIONS = 64  # at a time


def make_app(models: Sequence[Model], names: frozenset[str] | None = LOOPBACK, turns: Turns | None = None) -> Starlette:
    """The page of some models.

    Args:
        models: shown side by side, in this order.
        names: host names that requests for the page may use; None: any.
        turns: the queue of computations.
    """
    queue = turns or Turns()
    described = describe(models)

    async def runs(request: Request) -> Response:
        return JSONResponse(described)

    async def analysis(request: Request) -> Response:
        name = file_name(request.query_params.get("name", ""))
        windows = seconds(request.query_params.get("windows"))
        with queue.upload() as hold:
            data = await receive(request, hold=hold)
            with queue.place():
                answer = await queue.run(
                    lambda check: reply(models, data, name, windows, check), request.is_disconnected
                )
        return JSONResponse(answer)

    return Starlette(
        routes=[*static(), Route("/runs", runs), Route("/analysis", analysis, methods=["POST"])],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={Refused: refuse, EmoshareError: mistaken, HTTPException: unknown, Exception: fail},
    )


def static() -> list[Route]:
    """A route for each file of the page; they are read once."""

    def route(name: str, content: bytes) -> Route:
        kind = TYPES[name.rpartition(".")[2]]
        return Route("/" if name == "index.html" else f"/{name}", lambda request: Response(content, media_type=kind))

    files = resources.files("emoshare.inference.page") / "static"
    return [route(file.name, file.read_bytes()) for file in files.iterdir() if file.name.rpartition(".")[2] in TYPES]


def describe(models: Sequence[Model]) -> dict[str, Any]:
    """The page's facts about the runs and its own limits."""
    names = Counter[str]()
    runs = []
    for model in models:
        results = model.results
        names[results.run] += 1
        number = names[results.run]
        value = results.score("devel", results.main.name)
        parts = [part for part, _ in model.parts]
        runs.append({
            "name": results.run + (f" ({number})" if number > 1 else ""),
            "system": f"fusion of {len(results.members)} runs" if results.is_fusion
            else f"{results.backbone.name} · {results.system}",
            "targets": model.targets,
            "range": results.range,
            "error": {target: error for target, error in model.devel_error.items() if np.isfinite(error)},
            "window": max(part.window.seconds for part in parts),
            "bounded": model.bundle.bounded,
            "attention": any(attends(part.head) for part in parts),
            "score": value if np.isfinite(value) else None,
            "metric": results.main.label,
        })  # fmt: skip
    return {"runs": runs, "max_mb": MAX_MB, "max_seconds": MAX_SECONDS}


def reply(models: Sequence[Model], data: bytes, name: str, windows: float | None, check: Check) -> dict[str, Any]:
    """The answer to an upload. EmoshareError where it is no recording that can be read."""
    wave = decode(data, name)
    runs: list[dict[str, Any]] = []
    for model in models:
        try:
            analysis = analyse(model, name, wave, windows, check)
        except EmoshareError as error:
            runs.append({"error": without_places(str(error))})
            continue
        shares, attention = analysis.shares, analysis.attention
        runs.append({
            "start": shares.start.tolist(),
            "end": shares.end.tolist(),
            "shares": round_values(shares.values, 4),
            "attention": None if attention is None else round_values(attention, 3),
            "csv": shares.text(),
        })  # fmt: skip
    return {"name": name, "seconds": len(wave) / RATE, "peaks": round_values(peaks(wave), 3), "runs": runs}


def attends(head: Head | None) -> bool:
    """Whether a head weights frames by attention."""
    return getattr(getattr(head, "pooling", None), "score", None) is not None


def round_values(values: np.ndarray, digits: int) -> list[Any]:
    """Rounded values for JSON, as float64: float32 would have its many digits again."""
    return values.astype(np.float64).round(digits).tolist()


def seconds(text: str | None) -> float | None:
    """A window's length from a query. Refused where it is none."""
    if not text:
        return None
    try:
        value = float(text)
        check_windows(value, None)
    except (ValueError, EmoshareError):
        raise Refused(400, "windows: must be a number of seconds from 0.025 to 3600.") from None
    return value


def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.text}, error.status)


def mistaken(request: Request, error: Exception) -> Response:
    """The answer where something is wrong with a recording."""
    return JSONResponse({"error": without_places(str(error))}, 422)


def unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def fail(request: Request, error: Exception) -> Response:
    """An error that nobody foresaw: the terminal says which, the browser does not."""
    log.error("analysis failed: %s", f"{type(error).__name__}: {error}".splitlines()[0])
    return JSONResponse({"error": "Something failed on the server. Its terminal says what."}, 500)


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is any free one.

    Raises:
        EmoshareError: the address is in use, or no address of this machine.
    """
    taken = None
    with contextlib.suppress(socket.gaierror, UnicodeError):
        taken = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    if taken is None:
        raise EmoshareError(f"{host}: no address of this machine; 127.0.0.1 is this machine alone")
    listener = socket.socket(taken[0], socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(taken[4])
        listener.listen(CONNECTIONS)  # two programs may bind to one port, only one may listen
    except OSError as error:
        listener.close()
        port_is_wrong = error.errno in (errno.EADDRINUSE, errno.EACCES)
        remedy = "choose another port, 0 is any free one" if port_is_wrong else "127.0.0.1 is this machine alone"
        raise EmoshareError(f"{host}, port {port}: cannot be used ({error.strerror}); {remedy}") from None
    return listener


def address(bound: socket.socket) -> str:
    """The page's address in a browser; for all addresses of this machine, that by its name."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def make_server(models: Sequence[Model], bound: socket.socket, ready: Callable[[], None] = lambda: None) -> Server:
    """The server of a page; `run(sockets=[bound])` serves it until Ctrl-C, or until `should_exit` is set.

    Args:
        models: shown side by side.
        bound: from `bind`.
        ready: called when a browser can open the page.
    """
    turns = Turns()
    app = make_app(models, LOOPBACK if is_loopback(bound) else None, turns)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, ws="none", lifespan="off", server_header=False, timeout_keep_alive=5,
        timeout_graceful_shutdown=1, limit_concurrency=CONNECTIONS,
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    return Server(config, turns, ready)


class Server(uvicorn.Server):
    """Says when it is ready, and ends what it computes with itself."""

    def __init__(self, config: uvicorn.Config, turns: Turns, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.turns, self.ready = turns, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.turns.stop.set()
        await super().shutdown(sockets)
