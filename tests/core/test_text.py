"""Tables for the terminal."""

from emoshare.core.text import console_table


def test_a_table_has_words_left_and_numbers_right() -> None:
    text = console_table(["name", "n", "Avg"], [["tiny\n  lr=[a]", "1", "0.5"], ["hubert_large", "12", "–"]])
    assert text.splitlines() == [
        "name           n  Avg",
        "tiny           1  0.5",
        "  lr=[a]",
        "hubert_large  12    –",
    ]
