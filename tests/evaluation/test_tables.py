"""Tables as text: their width, their order, and what is never broken."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.evaluation.tables import Table, interval, number

NAME = "features.2.squeeze_of_a_long_name"
WORDS = "some words that may be broken"


def test_text_is_on_the_left_and_figures_on_the_right() -> None:
    assert str(
        Table("title", ["name", "words", "figure"], [["a", "b", "1.5"], ["long name", "cd", "12"]])
    ).splitlines() == [
        *("title", ""),
        "name       words  figure",
        "a          b         1.5",
        "long name  cd         12",
    ]


def test_text_is_broken_between_words_only() -> None:
    lines = Table("title", ["name", "", "figure"], [[NAME, WORDS, "12345"]] * 3).text(60).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(NAME in line for line in lines) == 3
    assert sum("some words that" in line for line in lines) == 3


def test_what_says_nothing_is_left_out() -> None:
    rows = [["a", "-", "1", ""], ["b", "-", "-", ""], ["c", "", "3", "-"]]
    assert str(Table("title", ["name", "nothing", "some", "none"], rows)).splitlines()[2:] == [
        *("name  some", "a        1", "c        3"),
    ]


def test_a_few_wide_rows_stand_on_end() -> None:
    lines = Table("title", ["name", "figure", "", "other"], [[NAME, "1234567", WORDS, "12"]]).text(50).splitlines()
    assert lines[2:] == [f"name    {NAME}", "figure  1234567", f"        {WORDS}", "other   12"]


def test_long_names_stand_above_their_rows() -> None:
    lines = Table("title", ["name", "figure", "words"], [[NAME, "1", "a"], ["b", "23", "c"], ["d", "4", ""]]).text(36)
    assert lines.splitlines()[2:] == [
        *("name", "  figure  words", NAME, "       1  a", "b", "      23  c", "d", "       4"),
    ]


def test_other_wide_tables_come_in_pieces_that_have_the_names() -> None:
    columns = ["layer", *(f"figure{index}" for index in range(9))]
    rows = [[f"layer{row}", *(str(1000 * row + index) for index in range(9))] for row in range(3)]
    text = Table("title", columns, rows).text(40)
    assert max(map(len, text.splitlines())) <= 40
    title, *pieces = text.split("\n\n")
    assert title == "title" and len(pieces) == 3 and all(piece.count("layer") == 4 for piece in pieces)
    assert re.findall(r"figure\d", text) == columns[1:]
    assert re.findall(r"\b1\d{3}\b", text) == rows[1][1:]


def test_only_the_names_of_columns_and_the_title_are_set_off() -> None:
    text = Table("title", ["name", "figure"], [["a", "1"]]).text(80, lambda line: f"<{line}>")
    assert text.splitlines() == ["<title>", "", "<name  figure>", "a          1"]


def test_wide_characters_take_two_columns() -> None:
    lines = str(Table("title", ["name", "figure"], [["日本", "1"], ["abcd", "2"]])).splitlines()
    assert lines[3:] == ["日本       1", "abcd       2"]


cells = st.text("ab1-. ", max_size=12).map(str.strip)


@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=5), st.integers(1, 90))
def test_every_word_is_there_at_every_width(rows: list[tuple[str, ...]], width: int) -> None:
    text = Table("title", ["n", "b", "c", "d"], rows).text(width).split()
    for row in rows:
        if any(cell not in ("", "-") for cell in row[1:]):
            assert all(word in text for cell in row for word in cell.split() if word != "-")


def test_numbers() -> None:
    assert [number(None), number(1.005, 1), number(2), number(12.6, 0), number(-0.25)] == [
        *("-", "1.0", "2.00", "13", "-0.25"),
    ]


def test_intervals() -> None:
    assert [interval(None), interval((1.005, 2)), interval((-1, 0.5), signed=True)] == [
        "-",
        "1.00..2.00",
        "-1.00..+0.50",
    ]
