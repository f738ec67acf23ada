"""A recording that a browser sends: bounded in bytes, seconds and samples, and never written to a disk."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable

import numpy as np
from starlette.requests import ClientDisconnect, Request

from emoshare.core.errors import EmoshareError
from emoshare.core.text import printable
from emoshare.data import audio
from emoshare.inference.page.turns import Refused

MAX_MB = 50.0
MAX_SECONDS = 300.0  # of a recording
MAX_SAMPLES = 60_000_000  # of all channels, decoded: 240 MB
UPLOAD_SECONDS = 60.0  # that an upload may take
PLACE = re.compile(r"(?<![\w:/])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:;,'\"()]+){2,}[/\\]?")


async def receive(
    request: Request, max_mb: float = MAX_MB, seconds: float = UPLOAD_SECONDS,
    hold: Callable[[int], None] = lambda size: None,
) -> bytes:  # fmt: skip
    """The bytes of an upload. Refused where they are too many or too slow.

    hold: is called with the size of each piece before it is kept; it may refuse.
    An upload gets a sixth of the time at first, and the rest of it as it goes on: one that stalls ends early.
    """
    too_large = Refused(413, f"The file is larger than {max_mb:g} MB. Cut it, or use emoshare predict.")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > max_mb * 1e6:
        raise too_large
    data, begun, size = bytearray(), asyncio.get_running_loop().time(), int(announced) or max_mb * 1e6
    try:
        async with asyncio.timeout(seconds / 6) as limit:
            async for piece in request.stream():
                if len(data) + len(piece) > max_mb * 1e6:
                    raise too_large
                hold(len(piece))
                data += piece
                limit.reschedule(begun + seconds * (1 + 5 * min(len(data) / size, 1)) / 6)
    except TimeoutError:
        raise Refused(408, f"The upload took more than {seconds:g} s, or stood still.") from None
    except ClientDisconnect:
        raise Refused(499, "The browser has left.") from None
    return bytes(data)


def decode(data: bytes, name: str) -> np.ndarray:
    """The bytes of a sound file → (N,) samples at 16 kHz.

    Raises:
        EmoshareError: they are no sound file that can be read, or hold too much; `name` is in its line.
    """
    source = io.BytesIO(data)
    source.name = name
    info = audio.info(source)
    if info.seconds > MAX_SECONDS:
        raise EmoshareError(
            f"{name}: {info.seconds:.0f} s long; the page takes up to {MAX_SECONDS:.0f} s, emoshare predict takes more"
        )
    if info.samples * info.channels > MAX_SAMPLES:
        raise EmoshareError(f"{name}: too many channels or samples a second; convert it to mono at 48 kHz or less")
    source.seek(0)
    return audio.read(source)


def file_name(given: str) -> str:
    """The name of a file as a browser gives it, without folders and control characters, at most 100 letters."""
    return printable(re.split(r"[/\\]", given)[-1]).strip()[-100:] or "recording"


def without_places(text: str) -> str:
    """The text with an ellipsis for each path of this machine."""
    return PLACE.sub("…", text)
