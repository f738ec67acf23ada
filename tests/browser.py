"""A headless Chromium, driven through its own protocol (CDP)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a Chromium.

    Attributes:
        problems: what the page's console said of errors and of the policy of its content.
    """

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.problems: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 15) -> None:
        """Until an expression is true."""
        ends = time.monotonic() + seconds
        while not self.run(f"!!({script})"):
            said = self.run("document.querySelector('#status')?.textContent")
            assert time.monotonic() < ends, f"{script} is not true after {seconds} s; the page says: {said!r}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && document.querySelectorAll('.card').length > 0")

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """The size of the window, and the colours that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{ block: 'nearest' }});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def drop(self, file: Path) -> None:
        """A file, dragged onto the middle of the recording's panel."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=150, y=250, data=data)

    def choose(self, file: Path) -> None:
        """A file, as from the dialog that `Choose file` opens."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the whole page, or of what the window shows of it."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(folder: Path, microphone: Path | None = None) -> Iterator[Browser]:
    """A Chromium with a profile in an empty folder, and with a wav file for a microphone."""
    from websockets.sync.client import connect

    assert PROGRAM is not None
    sound = f"--use-file-for-fake-audio-capture={microphone}" if microphone else "--mute-audio"
    command = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run",
        f"--user-data-dir={folder}", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", sound,
        "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required", "about:blank",
    ]  # fmt: skip
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        ends = time.monotonic() + 30
        while not port.exists() or len(port.read_text().splitlines()) < 2:
            assert time.monotonic() < ends, "Chromium did not start within 30 s"
            time.sleep(0.1)
        number = port.read_text().splitlines()[0]
        import httpx

        pages = httpx.get(f"http://127.0.0.1:{number}/json/list").json()
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with connect(address, max_size=None) as socket:
            page = Browser(socket)
            for domain in ("Page", "Runtime", "Log", "DOM"):
                page.call(f"{domain}.enable")
            yield page
    finally:
        program.terminate()
        program.wait(10)
