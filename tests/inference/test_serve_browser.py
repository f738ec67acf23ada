"""The page in a real browser: a headless Chromium with a wav file for a microphone.

Where there is no Chromium these are skipped: `apt-get install chromium`, or the runner's own google-chrome, is enough.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import emoshare as door

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("websockets", reason="drives Chromium")

import browser as chromium

from emoshare.inference.model import Model, load_model
from emoshare.inference.page import server

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium here: apt-get install chromium")
VALUES = "[...document.querySelectorAll('.card')].map(c => [...c.querySelectorAll('.value')].map(v => v.textContent))"
READY = "!document.querySelector('#play').disabled"
STATUS = "document.querySelector('#status').textContent"


def says(text: str) -> str:
    return f"{STATUS} == {text!r}"


@pytest.fixture(scope="module")
def model(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    place = tmp_path_factory.mktemp("serve")
    results = door.train(
        "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "trainer.epochs=2", "logger=none",
        "window.seconds=1", f"paths.outputs={place}", f"paths.cache={place / 'cache'}", "trainer.progress=false",
    )  # fmt: skip
    return load_model(place / "default" / results.run, "cpu")


@pytest.fixture(scope="module")
def address(model: Model) -> Iterator[str]:
    """The page of two runs."""
    ready = threading.Event()
    with server.bind("127.0.0.1", 0) as bound:
        running = server.make_server([model, model], bound, ready.set)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        assert ready.wait(20)
        yield server.address(bound)
        running.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: a low tone, silence, noise."""
    rng = np.random.default_rng(0)
    tone = 0.4 * np.sin(np.arange(16_000) * 2 * np.pi * 200 / 16_000)
    path = tmp_path_factory.mktemp("sound") / "three seconds.wav"
    soundfile.write(path, np.concatenate([tone, np.zeros(16_000), 0.2 * rng.standard_normal(16_000)]), 16_000)
    return path


@pytest.fixture(scope="module")
def chrome(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.browser(tmp_path_factory.mktemp("profile"), recording) as found:
        yield found


SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
both = pytest.mark.parametrize("page", SIZES, indirect=True)


@pytest.fixture
def page(chrome: chromium.Browser, address: str, request: pytest.FixtureRequest) -> Iterator[chromium.Browser]:
    """The page, freshly opened; nothing may go wrong in its console."""
    chrome.problems.clear()
    chrome.look(*SIZES[getattr(request, "param", "desktop")])
    chrome.open(f"{address}/")
    chrome.run(
        "window.moved = []; new PerformanceObserver(list => list.getEntries().forEach(entry => entry.sources.forEach("
        "({ node, previousRect, currentRect }) => moved.push([node?.id || node?.className || node?.nodeName,"
        " previousRect, currentRect]))))"
        ".observe({ type: 'layout-shift', buffered: false }); 0"
    )
    yield chrome
    assert chrome.run("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"
    assert chrome.run("window.moved") == []
    assert not chrome.problems


def wait_for(file: Path) -> str:
    """The text of a file that is being downloaded."""
    ends = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < ends, f"{file} is not there"
        time.sleep(0.05)
    return file.read_text(encoding="utf-8")


def shown(shares: np.ndarray, model: Model) -> list[str]:
    """The texts of a card's bars."""
    pairs = zip(shares, model.devel_error.values(), strict=True)
    return [f"{share:.2f} ± {error:.2f}" for share, error in pairs]


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts]


@both
def test_a_dropped_file_gives_the_shares_of_predict(page, model, recording, tmp_path) -> None:
    page.drop(recording)
    page.wait(READY)
    assert page.run(STATUS) == recording.name
    table: Any = model.predict(recording, windows=1, step=0.25)
    one, other = page.run(VALUES)
    assert one == other
    assert numbers(one) == pytest.approx(table.values.mean(0), abs=0.0051)
    assert [text.split(" ± ")[1] for text in one] == [text.split(" ± ")[1] for text in shown(table.values[0], model)]
    assert page.run("document.querySelector('.stretch').textContent") == f"Mean of {len(table)} windows"
    assert page.run("document.querySelector('#time').textContent") == "0.0 / 3.0 s"
    link = "document.querySelector('.download')"
    assert page.run(f"{link}.download") == f"three seconds-{model.results.run}.csv"
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.press(".download")
    file = tmp_path / page.run(f"{link}.download")
    assert wait_for(file) == table.text().replace(str(recording), recording.name)


def test_the_bars_follow_the_recording_as_it_plays(page, model, recording) -> None:
    page.drop(recording)
    page.wait(READY)
    mean = page.run(VALUES)[0]
    table: Any = model.predict(recording, windows=1, step=0.25)
    page.press("#play")
    seen = []
    page.wait("+document.querySelector('#position').value > 0.1")
    while not page.run("document.querySelector('#audio').paused"):
        seen.append(page.run(
            f"[+document.querySelector('#position').value, {VALUES}[0], "
            "getComputedStyle(document.querySelector('.fill')).transform]"
        ))  # fmt: skip
        time.sleep(0.1)
    page.wait("document.querySelector('#play-text').textContent == 'Play'")
    assert page.run(VALUES)[0] == mean
    times = [at for at, *_ in seen if at > 0]
    assert len(times) > 8
    assert all(before <= after for before, after in itertools.pairwise(times))
    centres = (table.start + table.end) / 2
    for at, texts, transform in seen[:-1]:
        expected = [np.interp(at, centres, column) for column in table.values.T]
        if at > 0:
            assert numbers(texts) == pytest.approx(expected, abs=0.0051)
            scale = float(transform.removeprefix("matrix(").split(",")[0])
            assert scale == pytest.approx(expected[0], abs=1e-3)


@both
def test_the_microphone(page, model) -> None:
    page.press("#record")
    page.wait("document.querySelector('#record-text').textContent == 'Stop'")
    page.wait("parseFloat(document.querySelector('#time').textContent) >= 1.5")
    page.press("#record")
    page.wait(READY)
    assert page.run(STATUS) == "recording.wav"
    seconds = page.run("+document.querySelector('#position').max")
    assert 1.4 < seconds < 4
    assert all(0 <= value <= 1 for value in numbers(page.run(VALUES)[0]))
    assert page.run("document.querySelector('#record-text').textContent") == "Record"


def test_what_the_microphone_heard_reaches_the_server(chrome, address, monkeypatch) -> None:
    heard = []
    decode = server.decode
    monkeypatch.setattr(server, "decode", lambda *data: heard.append(decode(*data)) or heard[-1])
    chrome.look(1280, 900)
    chrome.open(f"{address}/")
    chrome.press("#record")
    chrome.wait("parseFloat(document.querySelector('#time').textContent) >= 3.4", 20)
    chrome.press("#record")
    chrome.wait(READY)
    # Chromium plays the file in a loop, from any moment: the tone of 200 Hz is in it, and the silence
    loud = [np.abs(part).max() for part in np.array_split(heard[0], len(heard[0]) // 1600)]
    assert max(loud) > 0.3
    assert min(loud[1:-1]) < 0.01
    spectrum = np.abs(np.fft.rfft(heard[0]))
    assert np.fft.rfftfreq(len(heard[0]), 1 / 16_000)[spectrum.argmax()] == pytest.approx(200, abs=1.5)


def test_attention_is_drawn_in_the_colour_of_the_run(page, recording) -> None:
    orange = (  # of the second run, whose line lies over the equal one of the first
        "(() => { const c = document.querySelector('#wave'), d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) n += d[i + 3] > 200 && d[i] - d[i + 2] > 100; return n; })()"
    )
    assert page.run(f"[{orange}, document.querySelector('#hint').hidden]") == [0, False]
    page.drop(recording)
    page.wait(READY)
    assert page.run("document.querySelector('#hint').hidden")
    page.wait(f"{orange} > 300")


def test_keys_alone(page, recording) -> None:
    page.choose(recording)
    page.wait(READY)
    order = []
    page.run("document.activeElement.blur()")
    for _ in range(8):
        page.key("Tab", 9)
        order.append(page.run("document.activeElement.id || document.activeElement.className"))
    assert order[:7] == ["position", "record", "choose", "play", "windows", "download", "download"]
    page.run("document.querySelector('#position').focus()")
    page.key("ArrowRight", 39)
    page.key("ArrowRight", 39)
    assert page.run("document.querySelector('#time').textContent") == "0.5 / 3.0 s"
    before = page.run(VALUES)[0]
    page.key("End", 35)
    assert page.run("document.querySelector('#time').textContent") == "3.0 / 3.0 s"
    assert page.run("document.querySelector('#position').ariaValueText || "
                    "document.querySelector('#position').getAttribute('aria-valuetext')") == "3.0 seconds"  # fmt: skip
    assert page.run(VALUES)[0] != before


def test_windows_of_another_length(page, recording) -> None:
    page.drop(recording)
    page.wait(READY)
    page.run("(() => { const w = document.querySelector('#windows'); w.value = '0.5';"
             " w.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.wait(f"{READY} && document.querySelector('.stretch').textContent == 'Mean of 11 windows'")


def test_a_format_that_only_the_browser_reads(page, model, recording, tmp_path) -> None:
    """A name that the server does not take: decoded here, and sent as WAV."""
    other = tmp_path / "clip.m4a"
    other.write_bytes(recording.read_bytes())
    page.drop(other)
    page.wait(READY)
    assert page.run(STATUS) == "clip.m4a"
    table: Any = model.predict(recording, windows=1, step=0.25)
    assert numbers(page.run(VALUES)[0]) == pytest.approx(table.values.mean(0), abs=0.03)  # resampled twice


@both
def test_mistakes_are_said_and_leave_the_page_in_order(page, recording, tmp_path) -> None:
    for name in ("words.wav", "words.txt"):
        (tmp_path / name).write_text("no sound")
    page.drop(tmp_path / "words.wav")
    page.wait("document.querySelector('#status.alert')")
    assert page.run(STATUS) == "words.wav: not a sound file; replace the file, or leave it out"
    page.drop(tmp_path / "words.txt")
    page.wait(says("words.txt: not a sound file that this browser can decode."))
    page.drop(recording)
    page.wait(READY)
    assert not page.run("document.querySelector('#status').matches('.alert')")
    page.problems[:] = [problem for problem in page.problems if "422" not in problem]  # the answer to words.wav
