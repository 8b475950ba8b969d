"""getopt(3), checked against Python's own and by the words of glibc."""

from __future__ import annotations

import getopt as standard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.getopt import OPERAND, GetoptError, getopt

LETTERS = "ab:c:d"
WORDS = st.lists(st.text("-abcdx1", max_size=4), max_size=6)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("-ad", [("a", ""), ("d", "")]),
        ("-ab1", [("a", ""), ("b", "1")]),
        ("-ab 1 x", [("a", ""), ("b", "1"), ("", "x")]),
        ("-b -- x", [("b", "--"), ("", "x")]),
        ("x -a y", [("", "x"), ("a", ""), ("", "y")]),
        ("-a -- -d - --", [("a", ""), ("", "-d"), ("", "-"), ("", "--")]),
        ("- -a", [("", "-"), ("a", "")]),
    ],
)
def test_options_and_operands_in_their_order(line: str, found: list[tuple[str, str]]) -> None:
    assert list(getopt(line.split(), LETTERS)) == found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-x", "invalid option -- 'x'"),
        ("-a:", "invalid option -- ':'"),
        ("--abc", "invalid option -- '-'"),
        ("-ab", "option requires an argument -- 'b'"),
    ],
)
def test_the_words_of_getopt(line: str, text: str) -> None:
    with pytest.raises(GetoptError) as caught:
        list(getopt(line.split(), LETTERS))
    assert str(caught.value) == text


@given(WORDS)
def test_it_finds_what_pythons_getopt_finds(words: list[str]) -> None:
    if any(word.startswith("--") and word != "--" for word in words):
        return  # Python's knows long options
    try:
        options, operands = standard.gnu_getopt(words, LETTERS)
    except standard.GetoptError:
        with pytest.raises(GetoptError):
            list(getopt(words, LETTERS))
        return
    found = list(getopt(words, LETTERS))
    assert [pair for pair in found if pair[0] != OPERAND] == [(o[1:], a) for o, a in options]
    assert [word for letter, word in found if letter == OPERAND] == operands
