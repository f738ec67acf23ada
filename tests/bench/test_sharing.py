"""`emoshare bench workers`: every clip once, whatever the number of processes."""

from emoshare.bench import sharing


def test_processes_share_the_chunks(emoshare, monkeypatch) -> None:
    monkeypatch.setattr(sharing, "PROCESSES", (1, 2))
    monkeypatch.setattr(sharing, "CHUNKS", 4)
    result = emoshare("bench", "workers", "--pause", "0.2")
    assert result.status == 0, result.err
    title, _, _, *rows = result.out.splitlines()
    assert title.startswith("4 chunks of 128 clips in one store, 0.2 s each")
    cells = [row.split() for row in rows]
    assert [(row[0], row[-1]) for row in cells] == [("1", "0"), ("2", "0")]
    seconds = [float(row[1]) for row in cells]
    assert seconds[0] >= 0.8
    assert seconds[1] >= 0.4


def test_a_pause_of_nothing_is_refused(emoshare) -> None:
    result = emoshare("bench", "workers", "--pause", "0")
    assert result.status == 2
    assert "--pause=0: must be more than 0" in result.err
