"""Where the shell's lines come from: a terminal with history and completion, or a pipe.

On a terminal Ctrl-C throws the line away and Ctrl-D leaves. The history outlives the shell in
``$XDG_STATE_HOME/bottomhalf/history``, readable by its owner only. Completion asks the machine
which files there are, once for each line.
"""

from __future__ import annotations

import os
import posixpath
import re
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from nodes.cpu.kernel import procfs
from orchestrator.errors import OK, BottomhalfError
from orchestrator.machines import procfiles
from orchestrator.session import Session, Wait, drive
from orchestrator.verbs.files import HOME, absolute, names_in
from orchestrator.verbs.programs import module_names
from orchestrator.verbs.shell import commands

HISTORY_LINES = 1000
_DELIMITERS = " \t\n;|&>\"'"
_PATHS = ("cat", "ls", "cd")


@dataclass
class World:
    """What completion may offer."""

    paths: Sequence[str] = ()
    hosts: Sequence[str] = ()
    devices: Sequence[str] = ()
    modules: Sequence[str] = ()
    loaded: Sequence[str] = ()
    cpus: int = 1
    cwd: str = HOME
    commands: Sequence[str] = field(default_factory=lambda: sorted(commands()))


def complete(before: str, word: str, world: World) -> list[str]:
    """Words that may stand in the place of ``word``, which begins behind ``before``; each with the
    blank or the slash that follows it."""
    command = re.split(r";|&&|\|\|", before)[-1]
    if "|" in command:
        return []  # the host's
    words = command.split()
    if words[:1] == ["taskset"]:
        rest = words[2:] if words[1:2] == ["-c"] else words[1:]
        if not rest:
            options = ["-c"] if len(words) == 1 else []
            return _fitting([*options, *map(str, range(world.cpus))], word)
        words = rest[1:]
    if command.rstrip().endswith(">"):
        return _paths(word, world)
    if not words:
        return _fitting(world.commands, word)
    if words[0] in _PATHS or word.startswith("/"):
        return _paths(word, world)
    if words[0] in ("ping", "arping"):
        return _fitting(world.devices if words[-1] == "-I" else world.hosts, word)
    if words[0] == "tcpdump":
        return _fitting([*world.devices, "any"] if words[-1] == "-i" else ["-i"], word)
    if words[0] == "chcpu":
        given = map(str, range(1, world.cpus)) if len(words) > 1 else ("-d", "-e")
        return _fitting([*given], word)
    if words[0] in ("insmod", "modinfo") and len(words) == 1:
        return _fitting(world.modules, word)
    return _fitting(world.loaded, word) if words[0] == "rmmod" else []


def _fitting(words: Sequence[str], word: str) -> list[str]:
    return [f"{name} " for name in words if name.startswith(word)]


def _paths(word: str, world: World) -> list[str]:
    folder, _, begun = word.rpartition("/")
    head = f"{folder}/" if "/" in word else ""
    path = absolute(world.cwd, head)
    found = []
    for name in names_in(path, world.paths) or []:
        if name.startswith(begun):
            inside = names_in(absolute(path, name), world.paths)
            found.append(head + name + (" " if inside is None else "/"))
    return found


class Input:
    """Reads lines for a shell; a context manager that keeps the history."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._world: World | None = None
        self._found: list[str] = []
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._history = Path(state) / "bottomhalf" / "history"

    def __enter__(self) -> Input:
        if self.terminal:
            import readline  # noqa: PLC0415

            readline.set_completer(self._completer)
            readline.set_completer_delims(_DELIMITERS)
            readline.parse_and_bind("tab: complete")
            readline.clear_history()
            readline.set_history_length(HISTORY_LINES)
            with suppress(OSError):
                readline.read_history_file(self._history)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.terminal:
            import readline  # noqa: PLC0415

            with suppress(OSError):
                self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._history.touch(mode=0o600)
                readline.write_history_file(self._history)
            readline.set_completer(None)

    def read(self) -> str | None:
        """The next line; None at the end. KeyboardInterrupt: the line was thrown away."""
        self._world = None
        interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
        terminate = signal.signal(signal.SIGTERM, _leave)
        try:
            if self.terminal:
                return input(self._prompt())
            return sys.stdin.readline() or None
        except EOFError:
            if self.terminal:
                self._session.out("exit\n")
            return None
        except KeyboardInterrupt:
            if self.terminal:
                self._session.out("^C\n")
            raise
        finally:
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, terminate)

    def _prompt(self) -> str:
        cwd = self._session.cwd
        shown = "~" if cwd == HOME else posixpath.basename(cwd) or "/"
        return f"root@{self._session.machine.settings.hostname}:{shown}# "

    # -- completion

    def _completer(self, word: str, number: int) -> str | None:
        """readline's way of asking: one candidate after the other."""
        if number == 0:
            import readline  # noqa: PLC0415

            before = readline.get_line_buffer()[: readline.get_begidx()]
            try:
                self._found = complete(before, word, self._look())
            except BottomhalfError:
                self._found = []
        return self._found[number] if number < len(self._found) else None

    def _look(self) -> World:
        """The machine as it is while this line is typed."""
        if self._world is None:
            settings = self._session.machine.settings
            world = World(
                hosts=["gateway", *settings.gateway.addresses],
                modules=module_names(),
                cpus=settings.cpus,
                cwd=self._session.cwd,
            )
            quiet = replace(self._session, err=lambda text: None)
            drive(quiet, _ask(quiet, world))
            self._world = world
        return self._world


def _ask(session: Session, world: World) -> Generator[Wait, None, int]:
    tables = yield from procfiles.tables(session, "/")
    boot = tables[session.machine.settings.cpu_names[0]]
    world.paths = procfs.paths(tables)
    world.devices = list(boot["netdevs"])
    world.loaded = [name for name, _, _ in boot["modules"]]
    return OK


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise EOFError
