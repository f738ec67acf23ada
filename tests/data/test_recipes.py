"""The recipes for published corpora, on miniatures of their layout: headers as published, made-up contents."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.command.compose import compose_one
from emoshare.command.help import conf_folder
from emoshare.data import corpus
from emoshare.data.partition import Corpus

PAGE = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
RNG = np.random.default_rng(0)


def clip() -> np.ndarray:
    return RNG.normal(0, 0.1, 1600)


def write(root: Path, path: str, content: str | np.ndarray) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        place.write_text(content, encoding="utf-8")
    else:
        soundfile.write(place, content, 16_000)


def load(name: str, root: Path, *keys: str) -> Corpus:
    return corpus.load(compose_one([f"data={name}", f"data.root={root}", *keys]).data, root.parent / "cache")


def program(name: str) -> str:
    """The block of Python in a section of the page."""
    section = PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0]
    return section.partition("```python\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", ["msp_podcast", "biic_podcast"])
def test_msp_podcast(name: str, tmp_path: Path) -> None:
    test = ["Test1", "Test2", "Test3"] if name == "msp_podcast" else ["Test"]
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    lines = []
    for number, split in enumerate(["Train"] * 4 + ["Development"] * 3 + test):
        file = f"MSP-PODCAST_0001_{number:04}.wav"
        write(tmp_path / "msp", f"Audios/{file}", clip())
        speaker = "Unknown" if number < 2 else number
        lines.append(
            f"{file},{'NHXN'[number % 4]},{1 + number % 7}.0,{4 - number / 4},{7 - number % 7},{speaker},Male,{split}"
        )
    write(tmp_path / "msp", "Labels/labels_consensus.csv", "\n".join([header, *lines]))
    loaded = load(name, tmp_path / "msp")
    assert [len(part.files) for part in loaded.partitions.values()] == [4, 3, min(len(test), 2)]
    found = loaded.partitions["train"].shares
    assert found is not None
    np.testing.assert_allclose(found[1], [1 / 6, 2.75 / 6, 5 / 6], atol=1e-6)
    clusters = loaded.clusters_of("train")
    assert clusters is not None
    assert len(set(clusters)) == 4  # each of an unknown speaker is one of its own
    if name == "msp_podcast":
        classes = [
            "data.targets=[happy,neutral]", "data.classes={happy: H, neutral: N}", "+data.columns.label=EmoClass",
            "~data.columns.arousal", "~data.columns.valence", "~data.columns.dominance", "data.range=[0,1]",
        ]  # fmt: skip
        assert load(name, tmp_path / "msp", *classes).partitions["devel"].shares.tolist() == [[0, 1], [1, 0]]


def test_crema_d(tmp_path: Path) -> None:
    lines = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"']
    names = [f"{1001 + number}_{text}_HAP_LO" for number in range(6) for text in ("IEO", "TIE")]
    for number, name in enumerate(names):
        write(tmp_path / "crema", f"AudioWAV/{name}.wav", clip())
        for query, votes in (
            ("1", f"0,0,{number % 2},3,{6 - number % 2},1"),
            ("2", "0,0,0,9,0,0"),
            ("3", "1,0,0,9,0,0"),
        ):
            lines.append(f'"{query}{number + 1:05}",{votes},"{name}",10,0.6,"N",55.2')
    write(tmp_path / "crema", "processedResults/tabulatedVotes.csv", "\n".join(lines))
    loaded = load("crema_d", tmp_path / "crema")
    assert len(loaded.files) == 12
    for part in loaded.partitions.values():
        rows = [[0, 0, second, 0.3, 0.6 - second, 0.1] for second in (0, 0.1)] * (len(part.files) // 2)
        np.testing.assert_allclose(part.shares, rows, atol=1e-6)
    speakers = loaded.groups_of("devel")["speaker"].tolist()
    assert len(speakers) == 2 * len(set(speakers))
    assert set(speakers).isdisjoint(loaded.groups_of("train")["speaker"].tolist())


def test_ravdess(tmp_path: Path) -> None:
    for actor in range(1, 13):
        for emotion in range(1, 9):
            write(tmp_path / "r", f"Actor_{actor:02}/03-01-{emotion:02}-01-02-01-{actor:02}.wav", clip())
        write(tmp_path / "r", f"Actor_{actor:02}/03-02-01-01-02-01-{actor:02}.wav", clip())  # song
    loaded = load("ravdess", tmp_path / "r")
    assert len(loaded.files) == 12 * 8
    assert loaded.partitions["devel"].shares.tolist() == np.eye(8).tolist() * 2
    assert set(loaded.groups["speaker"].tolist()) == {f"{actor:02}" for actor in range(1, 13)}


def test_emodb(tmp_path: Path) -> None:
    for speaker in ("03", "08", "09", "10", "11"):
        for letter in "WLEAFTN":
            write(tmp_path / "e", f"wav/{speaker}a01{letter}a.wav", clip())
            write(tmp_path / "e", f"wav/{speaker}b10{letter}b.wav", clip())
    loaded = load("emodb", tmp_path / "e")
    assert len(loaded.files) == 70
    rows = dict(zip(loaded.partitions["devel"].files, loaded.partitions["devel"].shares, strict=True))
    assert [rows[file].argmax() for file in sorted(rows)][:7] == [3, 2, 4, 1, 6, 5, 0]  # A E F L N T W


def test_iemocap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for session in range(1, 6):
        turns = []
        for number, speaker in enumerate("FMF"):
            name = f"Ses{session:02}F_impro05_{speaker}{number:03}"
            write(tmp_path / "i", f"Session{session}/sentences/wav/Ses{session:02}F_impro05/{name}.wav", clip())
            second = "Neutral state; Sadness" if number else "Other"
            turns.append(
                f"[140.2250 - 145.6000]\t{name}\tang\t[1.5000, 4.0000, 4.5000]\nC-E1:\tAnger;\t()\n"
                f"C-E3:\tAnger;\t(a remark: Fear; here)\nC-E4:\t{second};\t()\nC-F1:\tFear;\t()\n"
                "A-E3:\tval 2; act 4; dom  4;\t()\nA-F1:\tval 1; act 5; dom  5;\t()\n"
            )
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(turns)
        write(tmp_path / "i", f"Session{session}/dialog/EmoEvaluation/Ses{session:02}F_impro05.txt", text)
        write(tmp_path / "i", f"Session{session}/dialog/wav/Ses{session:02}F_impro05.wav", clip())
    monkeypatch.chdir(tmp_path / "i")
    exec(program("IEMOCAP"), {})
    loaded = load("iemocap", tmp_path / "i")
    assert loaded.folds is not None
    assert loaded.folds.of == 5
    shares = loaded.partitions["devel"].shares
    assert shares is not None
    np.testing.assert_allclose(shares[0], np.array([2, 0, 0, 0, 0, 0, 0, 0, 0, 1]) / 3, atol=1e-6)
    np.testing.assert_allclose(shares[1], np.array([2, 0, 0, 1, 1, 0, 0, 0, 0, 0]) / 4, atol=1e-6)
    assert loaded.groups_of("devel")["speaker"].tolist() == ["Ses01F", "Ses01M", "Ses01F"]


def test_meld(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    for part, table in {"train": "train", "devel": "dev", "test": "test"}.items():
        lines = []
        for number, emotion in enumerate(("joy", "anger", "neutral")):
            write(tmp_path / "m", f"wav/{part}/dia0_utt{number}.wav", clip())
            times = '"00:20:57,256","00:21:00,049"'
            lines.append(f'{number},"Oh, my God.",Phoebe,{emotion},negative,0,{number},4,7,{times}')
        write(tmp_path / "m", f"{table}_sent_emo.csv", "\n".join([header, *lines]))
    loaded = load("meld", tmp_path / "m")
    for part in ("train", "devel", "test"):
        assert loaded.partitions[part].files == tuple(f"{part}/dia0_utt{number}.wav" for number in range(3))
        assert loaded.partitions[part].shares.argmax(1).tolist() == [3, 0, 4]
    assert loaded.cluster == "speaker"


def test_emonet_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = []
    for number in range(12):
        data = io.BytesIO()
        soundfile.write(data, clip(), 16_000, format="WAV")
        emotion = "Anger" if number < 10 else "Impatience%20and%20Irritability"
        label = str([{"human-1": {emotion: number % 3}}, {"human-4": {emotion: 2}}])
        rows.append({"audioId": {"bytes": data.getvalue(), "path": None}, "label": label})
    (tmp_path / "n/data").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "n/data/train-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path / "n")
    exec(program("EmoNet-Voice"), {})
    loaded = load("emonet_voice", tmp_path / "n")
    assert len(loaded.files) == 10
    assert sorted({share for part in loaded.partitions.values() for [share] in part.shares.tolist()}) == [0.5, 0.75, 1]
    assert "Impatience and Irritability" in (tmp_path / "n/labels.csv").read_text()


def test_every_recipe_is_told_and_tested() -> None:
    told = set(re.findall(r"^\| `data=(\w+)`", PAGE, re.M))
    made = {path.stem for path in (conf_folder() / "data").glob("*.yaml")}
    assert told == made - {"compare23", "csv", "demo", "demo_votes", "table", "audformat"}
    for name in told:
        assert "ot tried on the real files" in (conf_folder() / f"data/{name}.yaml").read_text().splitlines()[0]
