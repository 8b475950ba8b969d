"""The microscope's views: a line a boundary for pipes, a screen a boundary for a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Sequence

from nodes.cpu.page import CONTEXTS
from orchestrator.dashboards.keys import Keys
from orchestrator.labs.contexts import LETTER
from orchestrator.labs.eventtable import decoded
from orchestrator.labs.file import Lab
from orchestrator.labs.microscope import Microscope, Moment

#: Boundaries that are printed where there is no terminal and nobody said how many.
DEFAULT_STEPS = 40
_WIDTH = 80
_KEYS = " n space forward   b back   c next event   p event before   g start   q quit"
_CLEAR = "\x1b[H\x1b[2J"


class Stepper:
    """A position among the boundaries of a run."""

    def __init__(self, scope: Microscope, lab: Lab, origin_ns: int, begin_ns: int) -> None:
        self.scope = scope
        self.lab = lab
        self._origin = origin_ns
        self.start = self.number = scope.first_at(begin_ns)

    @property
    def last(self) -> int:
        return max(0, len(self.scope.moments) - 1)

    def move(self, steps: int) -> None:
        self.number = min(max(self.number + steps, 0), self.last)

    def press(self, key: str) -> bool:
        """What a key does; False ends it. A digit goes on to the n-th next event."""
        if key in ("q", "esc"):
            return False
        if key in ("n", " ", "right", "enter", "down"):
            self.move(1)
        elif key in ("b", "left", "up"):
            self.move(-1)
        elif key == "c" or key.isdecimal():
            for _ in range(int(key) if key.isdecimal() else 1):
                self.number = self.scope.next_event(self.number)
        elif key == "p":
            self.number = self.scope.next_event(self.number, forward=False)
        elif key == "g":
            self.number = self.start
        return True

    # -- text

    def head(self) -> list[str]:
        """Headings of ``row``."""
        return [
            f"{self.lab.name}, era {self.lab.scenario.machine.era}, virtual time: "
            "one instruction boundary a line",
            "   step         us  cpu     preempt_count  IF pending  functions, outermost first",
        ]

    def rows(self) -> list[str]:
        """This boundary in a line, what it began or ended, and what is under way."""
        moment, before = self._here()
        where = " > ".join(moment.stack[-1]) or "(idle)"
        line = (
            f"{self.number:>7} {self._us(moment):>10.2f}  {moment.cpu:<5} {_letter(moment)}  "
            f"{moment.preempt_count:#010x}  {int(moment.irqs_on)}  {self._pending(moment):<8} "
        )
        lines = [line + _fit(where, 200)]
        said = self.sentence()
        if said:
            lines.append(f"{'':26}{said}")
        lines += [
            f"{'':26}under way: {f.sender} -> {f.receiver} {f.text}"
            for f in self.scope.under_way(moment.time_ns)
            if f.left_ns > before.time_ns
        ]
        return lines

    def sentence(self) -> str:
        """What happened between the last boundary of this CPU and this one; or nothing."""
        moment, before = self._here()
        if len(moment.stack) > len(before.stack):
            top = moment.stack[-1]
            return f"{moment.cpu} takes an interrupt" + (f"; it is in {top[-1]}" if top else "")
        if len(moment.stack) < len(before.stack):
            return f"{moment.cpu} returns from the interrupt (iret) to {_task(moment)}"
        if moment.pid != before.pid:
            return f"{moment.cpu} switches: {_task(before)} -> {_task(moment)}"
        if moment.context != before.context:
            return f"{moment.cpu}: {CONTEXTS[before.context]} -> {CONTEXTS[moment.context]}"
        if moment.pending & ~before.pending:
            raised = self._names(moment.pending & ~before.pending)
            return f"{moment.cpu}: {raised} raised"
        return ""

    def screen(self, lines_max: int = 24) -> list[str]:
        """A whole screen: every CPU's contexts, and the messages under way."""
        moment, _ = self._here()
        lab = self.lab
        lines = [
            f" {lab.name}   step {self.number} of {self.last}   {self._us(moment):.2f} us   "
            f"virtual time   era {lab.scenario.machine.era}",
            f" {self.sentence() or f'{moment.cpu} passes an instruction boundary.'}",
        ]
        for name, now in self.scope.at(self.number).items():
            mark = ">" if name == moment.cpu else " "
            lines.append(
                f"-{mark}{name} {_letter(now)} {CONTEXTS[now.context]:<8} IF {int(now.irqs_on)}  "
                f"{decoded(now.preempt_count, lab.params)}"[:_WIDTH]
            )
            lines.append(f"     pending softirqs: {self._pending(now)}")
            for depth, functions in enumerate(now.stack):
                label = _task(now) if depth == 0 else f"interrupt {depth}"
                lines += _wrapped(f"     {label:<12} ", functions)
        flights = self.scope.under_way(moment.time_ns)
        lines.append(f"-messages under way: {len(flights) or 'none'}")
        lines += [
            f"     {f.sender} -> {f.receiver}: {f.text}, arrives in "
            f"{(f.arrives_ns - moment.time_ns) / 1000:.2f} us"
            for f in flights[:6]
        ]
        kept = [line[:_WIDTH] for line in lines[: lines_max - 1]]
        return [*kept, *[""] * (lines_max - 1 - len(kept)), _KEYS]

    def _here(self) -> tuple[Moment, Moment]:
        return self.scope.moments[self.number], self.scope.before(self.number)

    def _us(self, moment: Moment) -> float:
        return (moment.time_ns - self._origin) / 1000

    def _pending(self, moment: Moment) -> str:
        return self._names(moment.pending) or "-"

    def _names(self, mask: int) -> str:
        names = self.lab.params.softirq_names
        return ",".join(name for n, name in enumerate(names) if mask >> n & 1)


def _letter(moment: Moment) -> str:
    return LETTER[CONTEXTS[moment.context]]


def _task(moment: Moment) -> str:
    return f"{moment.comm}/{moment.pid}" if moment.pid else "idle"


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else ".." + text[2 - width :]


def _wrapped(head: str, functions: Sequence[str]) -> list[str]:
    lines = [head]
    for number, name in enumerate(functions):
        word = name if not number else f" > {name}"
        if len(lines[-1]) + len(word) > _WIDTH:
            lines.append(" " * len(head))
        lines[-1] += word
    return lines


# ---------------------------------------------------------------- driving


def print_steps(stepper: Stepper, steps: int, write: Callable[[str], None]) -> None:
    """A fixed number of boundaries as text."""
    for line in stepper.head():
        write(line + "\n")
    for _ in range(steps):
        for line in stepper.rows():
            write(line + "\n")
        if stepper.number >= stepper.last:
            return
        stepper.move(1)


def interactive(stepper: Stepper) -> None:
    """One boundary a key press, until ``q``."""
    from orchestrator.dashboards.live import _cbreak  # noqa: PLC0415

    keys = Keys()
    stdin = sys.stdin.fileno()
    with contextlib.ExitStack() as exits:
        exits.enter_context(_cbreak(stdin))
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        exits.callback(lambda: (sys.stdout.write("\x1b[?25h\x1b[?1049l"), sys.stdout.flush()))
        while True:
            lines = os.get_terminal_size(sys.stdout.fileno()).lines
            sys.stdout.write(_CLEAR + "\r\n".join(stepper.screen(max(10, lines))))
            sys.stdout.flush()
            timeout = 0.05 if keys.undecided else None
            ready = select.select([stdin], [], [], timeout)[0]
            data = os.read(stdin, 64) if ready else b""
            if ready and not data:
                return
            for key in keys.feed(data):
                if not stepper.press(key):
                    return
