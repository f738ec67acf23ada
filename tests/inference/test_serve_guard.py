"""Which requests the page's guard lets through: by the Host header, and by where they come from."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from emoshare.inference.page.guard import LOOPBACK, Guard


def client(names: frozenset[str] | None = LOOPBACK) -> TestClient:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("served")

    route = Route("/", answer, methods=["GET", "POST"])
    return TestClient(Starlette(routes=[route], middleware=[Middleware(Guard, names=names)]), "http://localhost:8765")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1", "10.0.0.1"])
def test_another_host_name_is_refused(host) -> None:
    """As of a site whose own name was made to resolve to this machine."""
    answer = client().get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"] == "Open this page as localhost or 127.0.0.1."
    assert client().post("/", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:9000", "[::1]:8765"])
def test_names_of_this_machine_are_served(host) -> None:
    assert client().get("/", headers={"Host": host}).text == "served"
    assert client().post("/", headers={"Host": host, "Origin": f"http://{host}"}).text == "served"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"}, {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
def test_other_sites_may_not_send(headers) -> None:
    answer = client().post("/", headers=headers)
    assert answer.status_code == 403
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_page_itself_may_send() -> None:
    own = {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "same-origin"}
    assert client().post("/", headers=own).text == "served"
    assert client().post("/").text == "served"  # a program that is no browser
    assert client().options("/", headers={"Origin": "http://evil.example"}).status_code == 403  # before it may ask


def test_for_the_network_any_name_may_be_asked_for_but_not_by_other_sites() -> None:
    host = {"Host": "lab.example:8765"}
    assert client(None).get("/", headers=host).text == "served"
    assert client(None).post("/", headers=host | {"Origin": "http://lab.example:8765"}).text == "served"
    assert client(None).post("/", headers=host | {"Origin": "http://evil.example"}).status_code == 403
