"""A screen on a terminal: keys in, frames out, ten times a second.

``Top`` owns the terminal between ``__enter__`` and ``__exit__`` and does a little work in each
``step``; it has no thread and waits only where it is told to. So three kinds of owners can drive
it: ``run_top`` attached to a machine of another process, ``run_top`` with a ``tick`` that pumps
the machine of this process, and a scenario that calls ``step`` from its own loop.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleDimensions
from rich.control import Control
from rich.screen import Screen

from orchestrator.dashboards import facts, help, screens
from orchestrator.dashboards.common import Size
from orchestrator.dashboards.keys import Keys
from orchestrator.dashboards.model import FAST_PERIOD_NS, MachineView

#: How the screen was left.
QUIT, DETACH, DONE = "quit", "detach", "done"
REDRAW_S = 0.1
#: Digits that come closer together than this are one number.
NUMBER_S = 0.8
MESSAGE_S = 6.0
STEP_S = FAST_PERIOD_NS / 1e9

#: Runs one command line of the CLI (``kill eth1``) and returns the line to show.
Act = Callable[[str], str]
#: Lets the machine live until this time of its clock.
Tick = Callable[[int], None]
Caption = Callable[[], str]

_VERBS = {"k": "kill", "f": "freeze", "c": "cable", "r": "restart"}


class Top:
    """The interactive dashboards of one machine."""

    def __init__(
        self,
        view: MachineView,
        node: str | None = None,
        act: Act | None = None,
        caption: Caption | None = None,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
    ) -> None:
        self.view = view
        #: of the screen that is open; a CPU has a second one, its worker pools
        self.node = node
        self._pools = False
        if node is not None:
            self.node, _, part = node.partition(":")
            self._pools = part == "pools"
        self.outcome: str | None = None
        self._act = act
        self._caption = caption
        self._stdin = stdin or sys.stdin
        self._stdout = stdout or sys.stdout
        self._console = Console(file=self._stdout, legacy_windows=False, highlight=False)
        self._keys = Keys()
        self._held = False
        self._help = False
        self._verb = ""  # waits for its target
        self._digits = ""
        self._digits_until = 0.0
        self._message = ""
        self._message_until = 0.0
        self._draw_at = 0.0
        self._drawn = ""
        self._exits = contextlib.ExitStack()

    # -- the terminal

    def __enter__(self) -> Top:
        with contextlib.ExitStack() as exits:
            exits.enter_context(_cbreak(self._stdin.fileno()))
            exits.enter_context(_terminable())
            exits.enter_context(self._console.screen(hide_cursor=True))
            self._exits = exits.pop_all()
        self.draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    # -- work

    def step(self, wait_s: float = 0.0) -> None:
        """Take keys (waiting for one up to ``wait_s``), look at the machine, draw when due."""
        pressed = self._read(wait_s)
        for key in pressed:
            self.press(key)
        if not self._held:
            self.view.sample()
        if pressed or time.monotonic() >= self._draw_at:
            self.draw()

    def draw(self) -> None:
        """Draw the present screen now."""
        now = time.monotonic()
        self._draw_at = now + REDRAW_S
        if self._message and now >= self._message_until:
            self._message = ""
        columns, lines = os.get_terminal_size(self._stdout.fileno())
        resized = self._console.size != (columns, lines)
        self._console.size = ConsoleDimensions(columns, lines)
        size = Size(columns, lines, self._caption_text(), self._prompt() or self._message)
        frame = (
            help.render(self.view, size)
            if self._help
            else screens.render(self.view, self._screen(), size)
        )
        if frame.plain == self._drawn and not resized:
            return
        self._drawn = frame.plain
        with self._console:  # one write
            self._console.control(Control.clear() if resized else Control(), Control.home())
            self._console.print(Screen(frame), end="")

    def press(self, key: str) -> None:
        """What a key does."""
        if self._help:
            self._help = False
        elif self._verb:
            self._choose(key)
        elif key in _KEYS:
            _KEYS[key](self)
        elif key.isdecimal():
            self._open(key)
        elif key in _VERBS:
            self._begin(_VERBS[key])

    def say(self, message: str) -> None:
        """Show a message, its lines as one, at the bottom for some seconds."""
        self._message = "; ".join(line.strip() for line in message.splitlines() if line.strip())
        self._message_until = time.monotonic() + MESSAGE_S

    # -- keys

    def _read(self, wait_s: float) -> list[str]:
        fd = self._stdin.fileno()
        if not select.select([fd], [], [], wait_s)[0]:
            return self._keys.feed(b"") if self._keys.undecided else []
        data = os.read(fd, 1024)
        if not data:  # the terminal is gone
            self.outcome = DETACH
            return []
        return self._keys.feed(data)

    def _open(self, digit: str) -> None:
        """Open the process with this number; with the digit just before it, if there is one."""
        names = list(self.view.nodes)
        now = time.monotonic()
        if now >= self._digits_until or int(self._digits + digit) >= len(names):
            self._digits = ""
        self._digits += digit
        self._digits_until = now + NUMBER_S
        if int(self._digits) < len(names):
            self.node = names[int(self._digits)]

    def _neighbour(self, step: int) -> None:
        names = list(self.view.nodes)
        if self.node is None:
            self.node = names[0 if step > 0 else -1]
        else:
            self.node = names[(names.index(self.node) + step) % len(names)]

    def _begin(self, verb: str) -> None:
        if self._act is None:
            self.say("this screen only looks: it was opened without a way to act")
        elif self.node is None:
            self._verb, self._digits = verb, ""
        else:
            self._do(verb, self.node)

    def _choose(self, key: str) -> None:
        """A key of the target of a verb that was begun on the overview."""
        names = list(self.view.nodes)
        bond = facts.bond(self.view)
        if key.isdecimal():
            self._digits += key
            number = int(self._digits)
            if number * 10 < len(names) and number:
                return  # it may become a longer number; Enter says that it does not
            target = names[number] if number < len(names) else ""
        elif key == "enter" and self._digits:
            target = names[int(self._digits)]
        else:
            slaves = bond.slaves if bond is not None else ()
            by_role = {"a" if s.active else "b": s.nic for s in reversed(slaves)}
            target = by_role.get(key, "")
        verb, self._verb, self._digits = self._verb, "", ""
        if target:
            self._do(verb, target)
        elif key != "esc":
            self.say(f"{verb}: no process has this key; nothing was done")

    def _prompt(self) -> str:
        if not self._verb:
            return ""
        names = list(self.view.nodes)
        if len(names) > 10:
            which = f"a number, Enter: {self._digits}_"
        else:
            which = " ".join(f"{n} {name}" for n, name in enumerate(names))
        return f"{self._verb} which?  {which}  a active  b backup  Esc none"

    def _do(self, verb: str, node: str) -> None:
        assert self._act is not None
        found = self.view[node]
        if verb == "cable":
            if found.kind != "nic":
                self.say(
                    f"cable: {node} has none; NICs are {' '.join(self.view.settings.nic_names)}"
                )
                return
            line = f"cable {node} {'in' if facts.cable_out(self.view, node) else 'out'}"
        elif verb == "freeze" and found.state.frozen:
            line = f"thaw {node}"
        else:
            line = f"{verb} {node}"
        self.say(self._act(line))

    def _caption_text(self) -> str:
        held = "held: space goes on" if self._held else ""
        return held or (self._caption() if self._caption is not None else "")

    def _hold(self) -> None:
        self._held = not self._held

    def _leave(self, outcome: str) -> None:
        self.outcome = outcome

    def _screen(self) -> str | None:
        """Name of the screen that is open."""
        pools = self._pools and self.node is not None and self.view[self.node].kind == "cpu"
        return f"{self.node}:pools" if pools else self.node

    def _back(self) -> None:
        if self._screen() == self.node:
            self.node = None
        self._pools = False

    def _worker_pools(self) -> None:
        if self.node is None or self.view[self.node].kind != "cpu":
            self.say("w shows the worker pools of a CPU: open one first")
        else:
            self._pools = not self._pools

    def _show_help(self) -> None:
        self._help = True


_KEYS: dict[str, Callable[[Top], None]] = {
    "esc": Top._back,
    "left": lambda top: top._neighbour(-1),
    "right": lambda top: top._neighbour(1),
    " ": Top._hold,
    "?": Top._show_help,
    "w": Top._worker_pools,
    "q": lambda top: top._leave(QUIT),
    "d": lambda top: top._leave(DETACH),
}


def run_top(
    view: MachineView,
    node: str | None = None,
    act: Act | None = None,
    caption: Caption | None = None,
    tick: Tick | None = None,
    done: Callable[[], bool] | None = None,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> str:
    """Show dashboards until a key leaves them or ``done()``; returns QUIT, DETACH or DONE.

    With ``tick`` the machine lives in this process and time passes only there; in virtual time one
    second of it takes a second at the least."""
    with Top(view, node, act, caption, stdin, stdout) as top:
        while top.outcome is None:
            if done is not None and done():
                return DONE
            began = time.monotonic()
            if tick is not None:
                tick(view.clock() + FAST_PERIOD_NS)
            top.step(max(STEP_S - (time.monotonic() - began), 0.0))
    return top.outcome


def gather(view: MachineView, seconds: float = 1.0, tick: Tick | None = None) -> None:
    """Look at a machine for a while, so that a single frame has rates to show."""
    end = view.clock() + int(seconds * 1e9)
    while view.clock() < end:
        if tick is not None:
            tick(min(view.clock() + FAST_PERIOD_NS, end))
        else:
            time.sleep(STEP_S)
        view.sample()
    view.sample(force=True)


@contextlib.contextmanager
def _cbreak(fd: int) -> Iterator[None]:
    """Keys one by one and unseen; Ctrl-C still interrupts, Ctrl-Z does nothing."""
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd, termios.TCSANOW)
        now: list[Any] = termios.tcgetattr(fd)
        now[6][termios.VSUSP] = os.fpathconf(fd, "PC_VDISABLE").to_bytes(1, "little")
        termios.tcsetattr(fd, termios.TCSANOW, now)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """While a screen is open SIGTERM and SIGHUP leave through the ordinary way out."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    taken = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, leave)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


__all__ = ["DETACH", "DONE", "QUIT", "Top", "gather", "run_top"]
