"""Protection of the page from other sites: checks of each request, and headers of each answer."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = {  # the page's own files alone; sound is played from the browser's memory (blob:)
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
    "connect-src": "'self'", "media-src": "blob:", "worker-src": "'self'", "base-uri": "'none'",
    "form-action": "'none'", "frame-ancestors": "'none'",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """Refuses what does not come from the page itself.

    - A page that only this machine may see is requested by a name of this machine. Another name in the Host header is
      a site that had its own name resolve to this machine (DNS rebinding). The port is not compared: an SSH tunnel
      may have another.
    - What changes or computes something (all but GET and HEAD) comes from the page's own origin.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        """`names`: the host names that requests may use; None: any."""
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if problem := self.problem(scope["method"], Headers(scope=scope)):
            await JSONResponse({"error": problem}, 403)(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def problem(self, method: str, headers: Headers) -> str:
        """The reason to refuse a request; empty where there is none."""
        host = headers.get("host", "")
        if self.names is not None and host_name(host) not in self.names:
            return "Open this page as localhost or 127.0.0.1."
        if method in ("GET", "HEAD"):
            return ""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        if site != "same-origin" or (origin is not None and origin not in (f"http://{host}", f"https://{host}")):
            return "Only this page itself may send recordings here."
        return ""


def host_name(host: str) -> str:
    """`localhost` of `LOCALHOST:8765`, `::1` of `[::1]:8765`; empty where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
