"""A line of the shell: what joins commands, what words say, what is refused by name."""

from __future__ import annotations

import pytest

from orchestrator.errors import BottomhalfError
from orchestrator.shell.shellline import Command, Word, split, words


def texts(text: str, status: int = 0) -> list[str]:
    return [word.text for word in words(text, status).words]


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("", []),
        ("   ", []),
        ("# only this", []),
        ("nproc", [Command(";", "nproc", None)]),
        ("nproc;", [Command(";", "nproc", None)]),
        ("nproc # cpus", [Command(";", "nproc", None)]),
        ("echo a#b", [Command(";", "echo a#b", None)]),
        (
            "a && b || c; d",
            [
                Command(";", "a", None),
                Command("&&", "b", None),
                Command("||", "c", None),
                Command(";", "d", None),
            ],
        ),
        ("a\nb\n\nc", [Command(";", "a", None), Command(";", "b", None), Command(";", "c", None)]),
        (
            "cat f | grep x | wc -l; b",
            [Command(";", "cat f", "grep x | wc -l"), Command(";", "b", None)],
        ),
        ("cat f | awk '{ print $1; }'", [Command(";", "cat f", "awk '{ print $1; }'")]),
        ("cat f | sort > /tmp/x", [Command(";", "cat f", "sort > /tmp/x")]),
        ("echo 'a;b && c|d'", [Command(";", "echo 'a;b && c|d'", None)]),
        ('echo "a;b\\"|c"', [Command(";", 'echo "a;b\\"|c"', None)]),
        ("echo a\\;b", [Command(";", "echo a\\;b", None)]),
    ],
)
def test_commands_of_a_line(line: str, commands: list[Command]) -> None:
    assert split(line) == commands


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("; a", "syntax error near unexpected token `;'"),
        ("a ;; b", "syntax error near unexpected token `;'"),
        ("a &&", "syntax error near unexpected token `newline'"),
        ("&& a", "syntax error near unexpected token `&&'"),
        ("| grep x", "syntax error near unexpected token `|'"),
        ("a |", "syntax error near unexpected token `newline'"),
        ("echo 'a", "unexpected EOF while looking for matching `''"),
        ('echo "a', "unexpected EOF while looking for matching `\"'"),
    ],
)
def test_slips_of_grammar_are_bashs(line: str, what: str) -> None:
    with pytest.raises(BottomhalfError) as caught:
        split(line)
    assert (caught.value.what, caught.value.code, caught.value.program) == (what, 2, "bash")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo  a   b", ["echo", "a", "b"]),
        ("echo 'a  b' \"c  d\"e", ["echo", "a  b", "c  de"]),
        ("echo '' x", ["echo", "", "x"]),
        ("echo a\\ b \\\\ \\$", ["echo", "a b", "\\", "$"]),
        ('echo "\\$ \\" \\n"', ["echo", '$ " \\n']),
        ("echo $? \"=$?\" '$?' $", ["echo", "7", "=7", "$?", "$"]),
    ],
)
def test_words_and_quotes(text: str, found: list[str]) -> None:
    assert texts(text, 7) == found


@pytest.mark.parametrize(
    ("text", "found", "target"),
    [
        ("echo 2 > /proc/x", ["echo", "2"], "/proc/x"),
        ("echo 2>/proc/x", None, None),
        ("echo 2 >>/proc/x", ["echo", "2"], "/proc/x"),
        ("> '/proc/a b' echo 2", ["echo", "2"], "/proc/a b"),
        ("echo a>b", ["echo", "a"], "b"),
    ],
)
def test_redirections(text: str, found: list[str] | None, target: str | None) -> None:
    if found is None:
        with pytest.raises(BottomhalfError, match="2> is not modelled"):
            words(text, 0)
        return
    simple = words(text, 0)
    assert [word.text for word in simple.words] == found
    assert simple.target is not None
    assert simple.target.text == target


def test_patterns_are_marked_unless_quoted() -> None:
    assert words("cat /sys/*/x '/sys/*' a\\*", 0).words == [
        Word("cat"), Word("/sys/*/x", True), Word("/sys/*"), Word("a*"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("cat < x", "input from a file"),
        ("ping gateway &", "a job in the background"),
        ("echo $HOME", "$H..."),
        ("echo $(nproc)", "$(..."),
        ("echo `nproc`", "`...`"),
        ('echo "`nproc`"', "`...`"),
        ("echo a > b > c", "a second redirection"),
    ],
)
def test_what_bash_would_understand_is_refused_by_name(text: str, what: str) -> None:
    with pytest.raises(BottomhalfError) as caught:
        words(text, 0)
    assert caught.value.what == f"{what} is not modelled"
    assert caught.value.code == 2


@pytest.mark.parametrize("text", ["echo >", "echo a > > b"])
def test_a_redirection_needs_a_file(text: str) -> None:
    with pytest.raises(BottomhalfError, match="syntax error"):
        words(text, 0)
