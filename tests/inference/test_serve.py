"""The page's server: what it answers, what it refuses, and what it leaves behind."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import emoshare as door

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
from starlette.testclient import TestClient

from emoshare.command.serve import load_models
from emoshare.core.errors import EmoshareError
from emoshare.inference.model import Model, load_model
from emoshare.inference.page import analysis, server, upload
from emoshare.inference.page.turns import Turns
from emoshare.inference.recording import Cut

ORIGIN = {"Origin": "http://localhost"}


@pytest.fixture(scope="module")
def folder(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs, and their fusion."""
    place = tmp_path_factory.mktemp("serve")
    common = [
        "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "trainer.epochs=1", "logger=none",
        f"paths.outputs={place}", f"paths.cache={place / 'cache'}", "trainer.progress=false", "sweep.name=s",
    ]  # fmt: skip
    door.train(*common, "window.seconds=1")
    door.train(*common, "window.seconds=0.5", "window.pad=none", "head.pooling=mean")
    return place / "s"


@pytest.fixture(scope="module")
def models(folder: Path) -> list[Model]:
    """One with attention, one without."""
    found = [load_model(run, "cpu") for run in sorted(folder.iterdir()) if (run / "results.json").is_file()]
    return sorted(found, key=lambda model: model.config.head.pooling)


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.3 * np.sin(np.arange(40_000) / 9) * rng.random(40_000)).astype(np.float32)


@pytest.fixture(scope="module")
def wav(wave: np.ndarray) -> bytes:
    return sound(wave)


def sound(wave: np.ndarray, kind: str = "WAV", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind)
    return file.getvalue()


@pytest.fixture
def client(models: list[Model]) -> TestClient:
    return TestClient(server.make_app(models), base_url="http://localhost", raise_server_exceptions=False)


def send(client: TestClient, data: bytes, headers: dict[str, str] = ORIGIN, **query: Any) -> Any:
    return client.post("/analysis", params={"name": "clip.wav", **query}, content=data, headers=headers)


def test_the_page_and_its_files_need_nothing_from_elsewhere(client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|<style|style=|<script>|\son\w+=", page.text)
    names = re.findall(r'(?:href|src)="([\w.]+)"', page.text)
    kinds = {name: client.get(f"/{name}").headers["content-type"] for name in names}
    assert {"page.css", "page.js", "icon.svg"} <= set(names)
    assert kinds["page.js"].startswith("text/javascript")
    imported = re.findall(r'from "\./([\w.]+)"', client.get("/page.js").text)
    assert [client.get(f"/{name}").status_code for name in [*imported, "capture.js"]] == [200] * 4


def test_every_answer_has_the_policy(client) -> None:
    for path in ("/", "/runs", "/nothing", "/page.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/nothing").json() == {"error": "Not Found"}
    assert client.get("/../pyproject.toml").status_code == 404


def test_what_it_says_of_the_runs(client, models, folder) -> None:
    said = client.get("/runs")
    assert [run["name"] for run in said.json()["runs"]] == [model.results.run for model in models]
    first = said.json()["runs"][0]
    assert first["window"] == 1
    assert [run["attention"] for run in said.json()["runs"]] == [True, False]
    assert first["error"] == pytest.approx(models[0].devel_error)
    assert first["score"] == models[0].results.score("devel", "avg")
    assert str(folder.parent) not in said.text


def test_runs_of_one_name_are_told_apart(models) -> None:
    names = [run["name"] for run in server.describe([models[0], models[0]])["runs"]]
    assert names == [models[0].results.run, f"{models[0].results.run} (2)"]


def test_shares_are_those_of_predict(client, models, wave, wav) -> None:
    answer = send(client, wav).json()
    assert answer["seconds"] == 2.5
    for model, run in zip(models, answer["runs"], strict=True):
        window = model.parts[0][0].window.seconds
        expected = model.predict(soundfile.read(io.BytesIO(wav), dtype="float32")[0], 16_000, window, 0.25)
        assert run["csv"] == expected.text().replace("array 0", "clip.wav")
        np.testing.assert_allclose(run["shares"], expected.values, atol=5.1e-5)
        np.testing.assert_allclose(run["start"], expected.start)
        assert run["end"][-1] == 2.5


def test_windows_of_another_length(client, wav) -> None:
    [run, _] = send(client, wav, windows="2").json()["runs"]
    assert (run["start"][0], run["end"][0]) == (0, 2)
    for bad in ("0", "nan", "long", "1e9"):
        assert send(client, wav, windows=bad).status_code == 400


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "AIFF"])
def test_every_format_that_is_read(client, wave, kind) -> None:
    answer = send(client, sound(wave, kind))
    assert answer.json()["seconds"] == pytest.approx(2.5, abs=0.1)


def test_attention_is_the_softmax_of_the_heads_query(models, wave) -> None:
    """From the equation: exp(q·f) / Σ exp(q·f), times the number of frames, of one window that is the recording."""
    part, _ = models[0].parts[0]
    clip = wave[:16_000]
    frames = part.frames([clip])[0].numpy()  # (T, W)
    query = part.head.pooling.score.weight.numpy()[0]  # (W,)
    weights = np.exp(frames @ query - (frames @ query).max())
    expected = weights / weights.sum() * len(frames)
    found = analysis.analyse(models[0], "clip", clip, None, lambda: None).attention
    assert len(found) == 50  # a second, by 20 ms
    np.testing.assert_allclose(found[: len(expected)], expected[:50], rtol=1e-4)


def test_a_head_without_attention_has_no_curve(models, wave) -> None:
    assert analysis.analyse(models[1], "clip", wave, None, lambda: None).attention is None


def test_a_curve_is_the_mean_over_the_windows_that_hold_a_moment() -> None:
    curve = analysis.Curve(16_000)
    first, second = (Cut(start, start + 0.6, np.zeros(9_600, np.float32)) for start in (0.0, 0.4))
    curve.add(first, np.full(29, 1.0), 1.0)
    curve.add(second, np.full(29, 4.0), 1.0)
    curve.add(second, np.full(29, 7.0), 1.0)
    np.testing.assert_allclose(curve.points(), [1.0] * 20 + [4.0] * 10 + [5.5] * 20)
    assert analysis.Curve(16_000).points() is None


def test_frames_at_another_rate_share_the_window() -> None:
    curve = analysis.Curve(16_000)
    curve.add(Cut(0.0, 1.0, np.zeros(16_000, np.float32)), np.array([1.0, 3.0]), 1.0)
    np.testing.assert_allclose(curve.points(), [1.0] * 25 + [3.0] * 25)


def test_a_fusion_is_the_mean_of_its_members(models, folder, tmp_path, wave, emoshare) -> None:
    status, _, said = emoshare("fuse", *(str(model.folder) for model in models), "--out", str(tmp_path / "f"))
    assert status == 0, said
    [place] = (path.parent for path in (tmp_path / "f").glob("*/results.json"))
    fusion = load_model(place, "cpu")
    found = analysis.analyse(fusion, "clip", wave, 1.0, lambda: None)
    members = [analysis.analyse(model, "clip", wave, 1.0, lambda: None) for model in models]
    np.testing.assert_allclose(found.shares.values, np.mean([m.shares.values for m in members], 0), atol=1e-6)
    np.testing.assert_allclose(found.attention, members[0].attention)  # of the member that has one
    assert server.describe([fusion])["runs"][0]["system"] == "fusion of 2 runs"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"no sound at all", "not a sound file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "truncated: no 'data' chunk"),
    ],
)
def test_what_is_no_sound_is_a_line_with_its_name_alone(client, data, says) -> None:
    answer = send(client, data, name="/home/somebody/secret/clip.wav")
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("clip.wav: ")
    assert says in answer.json()["error"]
    assert "somebody" not in answer.text


def test_bounds_in_bytes_seconds_and_samples(client, wav, monkeypatch) -> None:
    assert send(client, b"\0" * 50_000_001).status_code == 413
    pieces = (b"\0" * 1_000_000 for _ in range(60))  # without a length in its header
    assert client.post("/analysis", content=pieces, headers=ORIGIN).status_code == 413
    long = send(client, sound(np.zeros(301 * 4_000, np.float32), rate=4_000))
    assert long.status_code == 422
    assert "301 s long" in long.json()["error"]
    monkeypatch.setattr(upload, "MAX_SAMPLES", 100)
    assert "too many channels" in send(client, wav).json()["error"]


def test_a_name_is_made_harmless(client, wav) -> None:
    assert send(client, wav, name="..\\..\\a\x1b[31m\n.wav").json()["name"] == "a [31m .wav"
    assert send(client, wav, name="").json()["name"] == "recording"
    assert len(send(client, wav, name="x" * 5_000).json()["name"]) == 100


def test_other_names_and_other_sites_are_refused(client, wav, models) -> None:
    assert client.get("/runs", headers={"Host": "evil.example"}).status_code == 403
    assert send(client, wav, {"Origin": "http://evil.example"}).status_code == 403
    network = TestClient(server.make_app(models, names=None), base_url="http://lab.example:8765")
    assert send(network, wav, {"Origin": "http://lab.example:8765"}).status_code == 200
    assert send(network, wav, {"Origin": "http://evil.example"}).status_code == 403


def test_nothing_is_kept(client, wav, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert send(client, wav).status_code == 200
    assert send(client, b"no sound").status_code == 422
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_the_others(client, wav, models, monkeypatch) -> None:
    true = analysis.analyse

    def analyse(model: Model, *rest: Any) -> Any:
        if model is models[0]:
            raise EmoshareError("clip.wav: what lies in /home/somebody/cache/x.bin is too short")
        return true(model, *rest)

    monkeypatch.setattr(server, "analyse", analyse)
    broken, whole = send(client, wav).json()["runs"]
    assert broken == {"error": "clip.wav: what lies in … is too short"}
    assert whole["shares"]


def test_what_nobody_foresaw_is_said_on_the_terminal_alone(client, wav, monkeypatch, caplog) -> None:
    def analyse(*rest: Any) -> Any:
        raise RuntimeError("/home/somebody/secret broke")

    monkeypatch.setattr(server, "analyse", analyse)
    monkeypatch.setattr(server.log, "propagate", True)
    answer = send(client, wav)
    assert answer.status_code == 500
    assert answer.json()["error"] == "Something failed on the server. Its terminal says what."
    assert "RuntimeError: /home/somebody/secret broke" in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/tmp/a/b.ckpt: gone", "…: gone"), ("see ~/runs/one, please", "see …, please"), ("and/or 1/2", "and/or 1/2"),
        ("(C:\\Users\\me\\x.wav)", "(…)"), ("out of memory on cuda:0", "out of memory on cuda:0"),
    ],
)  # fmt: skip
def test_paths_are_left_out(text, shown) -> None:
    assert upload.without_places(text) == shown


def test_a_full_queue_reads_no_upload(models, wav, monkeypatch) -> None:
    queue = Turns(waiting=-1)
    client = TestClient(server.make_app(models, turns=queue), base_url="http://localhost")
    monkeypatch.setattr(server, "receive", None)
    assert send(client, wav).status_code == 503


def test_a_run_given_twice_is_shown_once(models, tmp_path, monkeypatch) -> None:
    first, second = (model.folder for model in models)
    (tmp_path / "link").symlink_to(first.parent)
    monkeypatch.chdir(first.parent)
    spelled = [str(first), f"{first}/", first.name, str(tmp_path / "link" / first.name), str(second)]
    loaded = load_models(Namespace(runs=spelled, device="cpu", cache=None, revision=None))
    assert [model.folder for model in loaded] == [first, second]
    with pytest.raises(EmoshareError) as error:
        load_models(Namespace(runs=["nowhere", "nowhere"], device="cpu", cache=None, revision=None))
    assert str(error.value).count("nowhere") == 1


def test_mistakes_on_the_command_line_are_one_line(emoshare, models, monkeypatch) -> None:
    run = str(models[0].folder)
    with server.bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        status, out, said = emoshare("serve", run, "--port", port)
    assert (status, out) == (1, "")
    assert said.startswith(f"emoshare: 127.0.0.1, port {port}: cannot be used (Address already in use)")
    assert said.count("\n") == 1
    assert "127.0.0.1 is this machine alone" in emoshare("serve", run, "--host", "192.0.2.1").err
    both = emoshare("serve", "nowhere", "nothing", "--port", "0")
    assert both.status == 1
    assert both.err.count("no finished run here") == 2
    assert emoshare("serve", run, "--port", "70000").status == 2
    monkeypatch.setattr("emoshare.command.serve.find_spec", lambda name: None)
    assert emoshare("serve", run).err == (
        'emoshare: starlette and uvicorn not installed; run `pip install "emoshare[serve]"`\n'
    )


def test_addresses() -> None:
    with server.bind("127.0.0.1", 0) as one, server.bind("0.0.0.0", 0) as every:
        assert server.is_loopback(one)
        assert not server.is_loopback(every)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.address(one))
        assert "0.0.0.0" not in server.address(every)


BUSY = """
import sys, time
from emoshare.command.cli import main
from emoshare.inference.page import server
def analyse(*rest):
    print("computing", flush=True)
    time.sleep(60)  # as a computation in C++, which no check interrupts
server.analyse = analyse
sys.exit(main(["serve", sys.argv[1], "--port", "0"]))
"""


@pytest.fixture
def process(models: list[Model], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(Path(door.__file__).parents[1])}
    command = [sys.executable, "-c", BUSY, str(models[0].folder)]
    pipe = subprocess.PIPE
    program = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    yield program
    program.kill()
    program.communicate()


@pytest.mark.parametrize(("busy", "stop"), [(False, signal.SIGINT), (True, signal.SIGTERM)])
def test_ctrl_c_and_sigterm_end_it_at_once(process, busy, stop, wav) -> None:
    import httpx

    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    assert httpx.get(f"{address}/runs").status_code == 200
    if busy:
        threading.Thread(target=ignoring, args=(f"{address}/analysis", wav), daemon=True).start()
        assert process.stdout.readline() == "computing\n"
    process.send_signal(stop)
    out, said = process.communicate(timeout=10)
    assert (process.returncode, out, said) == (0, "", "")


def ignoring(url: str, data: bytes) -> None:
    import contextlib

    import httpx

    with contextlib.suppress(httpx.HTTPError):
        httpx.post(url, content=data, timeout=30)
