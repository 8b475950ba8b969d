"""The interactive screen on a real pseudo terminal: keys in, frames out, the terminal as before."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dashboard_bench import Bench

from bus.ram import Ram

GUARD_S = 30.0
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")
HOME = "\x1b[H"

pytestmark = pytest.mark.processes


class Terminal:
    """The other end of the terminal of a child."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.child = subprocess.Popen(
            [sys.executable, str(HERE / "top_child.py"), *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )

    def resize(self, lines: int, columns: int) -> None:
        self.lines, self.columns = lines, columns
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def frame(self) -> list[str]:
        """Lines of the last frame that was drawn to its end; none before the first."""
        for text in reversed(self.text.split(HOME)):
            frame = ESCAPES.sub("", text).replace("\r", "").split("\n")
            if len(frame) == self.lines and len(frame[-1]) == self.columns:
                return frame
        return []

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GUARD_S
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, "not on the screen:\n" + "\n".join(self.frame)
            if select.select([self.master], [], [], left)[0]:
                self.text += os.read(self.master, 65536).decode()

    def see(self, *pieces: str) -> list[str]:
        """Wait for a frame that shows all of this."""
        self.wait(lambda: all(piece in "\n".join(self.frame) for piece in pieces))
        return self.frame

    def end(self) -> int:
        """Wait for the end of the child; its exit code."""
        code = self.child.wait(GUARD_S)
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536).decode()
        return code

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        for end in (self.master, self.slave):
            if end >= 0:
                os.close(end)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*arguments: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        opened.append(Terminal(*arguments, size=size))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def assert_as_before(terminal: Terminal) -> None:
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert terminal.text.rindex("\x1b[?1049l") > terminal.text.rindex("\x1b[?1049h")
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")


def test_q_quits_and_the_terminal_is_as_before(terminal):
    top = terminal("tick")
    frame = top.see("Replies come over eth0; eth1 stands by.", "caption at 2 s")
    assert len(frame) == 24
    top.press("q")
    assert top.end() == 0
    assert "left: quit; asked: []" in top.text
    assert_as_before(top)


def test_d_detaches(terminal):
    top = terminal("tick")
    top.see("Replies come")
    top.press("d")
    assert top.end() == 0
    assert "left: detach" in top.text


def test_digits_arrows_and_escape_move_between_screens(terminal):
    top = terminal("tick")
    top.see("Replies come")
    for keys, who in (
        ("3", "m1 > eth0"),
        ("\x1b[C", "m1 > eth1"),
        ("\x1b[D\x1b[D", "m1 > apic"),
        ("5", "m1 > lan"),
        ("\x1b[C", "m1 > cpu0"),
        ("\x1b", "Replies come"),
        ("9", "Replies come"),
        ("\x1b[D", "m1 > lan"),
    ):
        top.press(keys)
        top.see(who)


def test_w_opens_the_worker_pools_of_a_cpu_and_closes_them(terminal):
    top = terminal("tick")
    top.see("Replies come")
    top.press("w")
    top.see("w shows the worker pools of a CPU: open one first")
    top.press("0")
    top.see("workers of cpu0")
    for keys, what in (
        ("w", "worklists: next"),
        ("\x1b[C", "worklists: next"),
        ("\x1b[C", "m1 > apic"),
        ("\x1b[D", "worklists: next"),
        ("w", "workers of cpu1"),
        ("w", "worklists: next"),
        ("\x1b", "workers of cpu1"),
        ("\x1b", "Replies come"),
    ):
        top.press(keys)
        top.see(what)


def test_space_holds_the_view_and_lets_it_go(terminal):
    top = terminal("tick")
    top.see("caption at 2 s")
    top.press(" ")
    held = top.see("held: space goes on")
    up = re.search(r"up \d+:\d+", held[0])
    assert up is not None
    top.press("3")
    assert up.group() in top.see("m1 > eth0")[0]
    top.press("\x1b")
    top.press(" ")
    top.see("caption at 4 s")  # the machine went on all the time


def test_a_key_acts_on_the_open_process(terminal):
    top = terminal("tick")
    top.see("Replies come")
    top.press("4")
    top.see("m1 > eth1")
    top.press("k")
    top.see("done: kill eth1", "DEAD", "SIGKILL")
    top.press("\x1b")
    top.see("eth1  killed (SIGKILL)", "mend: restart eth1", "X 4 eth1")
    top.press("q")
    top.end()
    assert "asked: ['kill eth1']" in top.text


def test_on_the_overview_a_verb_asks_for_its_target(terminal):
    top = terminal("tick")
    top.see("Replies come")
    top.press("c")
    top.see("cable which?", "a active  b backup")
    top.press("b")
    top.see("done: cable eth1 out", "mend: cable eth1 in")
    top.press("c")
    top.see("cable which?")
    top.press("4")
    top.see("done: cable eth1 in")
    top.press("f3")
    top.see("done: freeze eth0", "frozen (SIGSTOP)")
    top.press("f3")
    top.see("done: thaw eth0")
    top.press("r\x1b")
    top.press("c0")
    top.see("cable: cpu0 has none; NICs are eth0 eth1")
    top.press("q")
    top.end()
    wanted = ["cable eth1 out", "cable eth1 in", "freeze eth0", "thaw eth0"]
    assert f"asked: {wanted}" in top.text


def test_help_lists_the_keys_and_any_key_goes_back(terminal):
    top = terminal("tick")
    top.see("Replies come")
    top.press("?")
    top.see("hold the view; the machine goes on", "W waits for the answer")
    top.press("q")
    top.see("Replies come")


def test_the_screen_follows_the_size_of_the_terminal(terminal):
    top = terminal("tick")
    top.see("broken now", "us are the emulator's")
    top.resize(14, 70)
    assert "broken now" not in "\n".join(top.see("Replies come", "gateway"))
    top.resize(40, 120)
    top.see("broken now")


def test_a_scenario_ends_the_screen(terminal):
    top = terminal("tick", "300")
    assert top.end() == 0
    assert "left: done" in top.text
    assert_as_before(top)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_leaves_the_terminal_as_before(terminal, number, code):
    top = terminal("tick")
    top.see("Replies come")
    top.child.send_signal(number)
    assert top.end() == code
    assert_as_before(top)


def test_a_terminal_that_goes_away_ends_the_screen(terminal):
    top = terminal("tick")
    top.see("Replies come")
    os.close(top.slave)
    os.close(top.master)
    top.master = top.slave = -1
    assert top.child.wait(GUARD_S) != 0


def test_the_machine_of_another_process_is_shown_from_its_ram_file(terminal, tmp_path):
    path = str(tmp_path / "ram")
    owner = Bench(ram=Ram.create(path, Bench().settings.layout()))
    owner.network()
    top = terminal("attach", path)
    top.see("Nobody pings; bond0 would send over eth0.")
    owner.set("cpu0", bond_active=2)
    top.see("Nobody pings; bond0 would send over eth1.")
    top.press("1k")
    top.see("this screen only looks")
    top.press("q")
    assert top.end() == 0
    assert "left: quit" in top.text
