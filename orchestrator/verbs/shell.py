"""The verb ``sh``: the prompt of the emulated machine.

Commands are the kernel-layer verbs and a few builtins, in the order in which bash would do them.
``echo X > FILE`` is a write(2) on the emulated machine; what stands behind a ``|`` is run by the
host's /bin/sh with the command's text on its stdin. Grammar: ``shell.shellline``; history and
completion: ``shell.shellinput``.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from orchestrator import verbs
from orchestrator.errors import INTERRUPTED, OK, PROGRAM, USAGE, BottomhalfError, did_you_mean
from orchestrator.hopeless import kernel_waits, never_goes
from orchestrator.machines import procfiles
from orchestrator.session import Session, Steps, Wait, stdout
from orchestrator.shell import shellline
from orchestrator.shell.shellline import Command, Simple
from orchestrator.verbs.files import HOME, absolute, names_in

HOST_SHELL = "/bin/sh"
NOT_FOUND = 127
#: Programs of the host that read what is piped to them; others would tell of the host.
_FILTERS = (
    "awk", "column", "cut", "diff", "egrep", "fgrep", "grep", "head", "hexdump", "jq", "less",
    "more", "nl", "od", "sed", "sort", "strings", "tac", "tail",
    "tee", "tr", "uniq", "wc", "xargs", "xxd",
)  # fmt: skip
#: The longest word of a message (``bus.codec``), and how many of them ``write`` can have.
_PIECE_CHARS, _PIECES_MAX = 256, 60
_NULL = "/dev/null"
_ONLINE = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/online")
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "r": "\r", "a": "\a", "b": "\b", "0": "\0"}

Builtin = Callable[["Shell", Session, list[str]], Steps]
BUILTINS: dict[str, tuple[str, Builtin]] = {}


class _InterruptedError(Exception):
    """Ctrl-C ended a command, and with it the line."""


def builtin(name: str, usage: str) -> Callable[[Builtin], Builtin]:
    """Register a command that the shell does by itself."""

    def register(function: Builtin) -> Builtin:
        BUILTINS[name] = (usage, function)
        return function

    return register


def commands() -> dict[str, str]:
    """What can be typed, with its usage."""
    known = [v for v in verbs.TABLE.values() if v.layer == "kernel" or v.shell]
    rows = {v.name: v.usage for v in known if v.name != "sh"}
    return rows | {name: usage for name, (usage, _) in BUILTINS.items()}


class Shell:
    """One shell: where it is, and how the last command ended."""

    def __init__(self, session: Session) -> None:
        session.cwd = HOME
        self.session = session
        self.status = OK
        self.left = False

    def run(self, line: str) -> Steps:
        """One line; the exit code of its last command."""
        try:
            for command in shellline.split(line):
                if command.joiner != ";" and (command.joiner == "&&") == bool(self.status):
                    continue
                try:
                    self.status = yield from self._command(command)
                except BottomhalfError as error:
                    self.session.err(error.text(self.session.terminal))
                    self.status = error.code
                if self.left:
                    break
        except BottomhalfError as error:
            self.session.err(error.text(self.session.terminal))
            self.status = error.code
        except _InterruptedError:
            self.status = INTERRUPTED
        return self.status

    def _command(self, command: Command) -> Steps:
        simple = shellline.words(command.text, self.status)
        if command.host is None:
            code = yield from self._simple(self.session, simple)
            return code
        host = _Host(command.host, self.session)
        try:
            piped = replace(self.session, out=host.write, terminal=False)
            yield from self._simple(piped, simple)
        except BottomhalfError as error:
            self.session.err(error.text(self.session.terminal))
        finally:
            code = host.end()
        return code

    def _simple(self, session: Session, simple: Simple) -> Steps:
        """A command without its pipe."""
        argv = yield from self._expand(simple.words)
        if simple.target is None:
            if not argv:
                return OK
            code = yield from self._start(session, argv)
            return code
        if simple.target.text == _NULL:
            code = yield from self._start(replace(session, out=lambda text: None), argv or ["true"])
            return code
        targets = yield from self._expand([simple.target])
        if len(targets) > 1:
            raise BottomhalfError(f"{simple.target.text}: ambiguous redirect", "", 1, "bash")
        path = absolute(session.cwd, targets[0])
        code = yield from self._write(path, "", argv)
        if code or not argv:
            return code
        said: list[str] = []
        code = yield from self._start(replace(session, out=said.append), argv)
        failed = yield from self._write(path, "".join(said), argv)
        return failed or code

    def _write(self, path: str, text: str, argv: Sequence[str]) -> Steps:
        """open(2), and write(2) if there is something, by a task of the boot CPU."""
        session = self.session
        pieces = [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]
        if len(pieces) > _PIECES_MAX:
            raise BottomhalfError("echo: write error: File too large", "", 1, "bash")
        boot = session.machine.settings.cpu_names[0]
        found = _ONLINE.fullmatch(path) if text[:1] == "0" else None
        hopeless = never_goes(session.machine, [int(found[1])]) if found is not None else None
        argv_there = ("write", path, *pieces)
        job = yield from session.program(argv_there, boot, show=False, hopeless=hopeless)
        if job.failed:
            dead = hopeless is not None and hopeless()
            hint = kernel_waits(session.machine, session.on) if dead else "bottomhalf ps"
            raise BottomhalfError(job.failed, hint, 1, "bash")
        said = "".join(text for _, text in job.take())
        if argv and argv[0] != "echo":
            said = said.replace("bash: echo: write", f"{argv[0]}: write")
        session.err(said)
        assert job.exit_code is not None
        if "No such file" in said and not path.startswith(("/proc", "/sys")):
            session.hint("a file of the host is behind a pipe: dmesg | tee FILE")
        return job.exit_code

    def _start(self, session: Session, argv: list[str]) -> Steps:
        name = argv[0]
        if name in BUILTINS:
            code = yield from BUILTINS[name][1](self, session, argv[1:])
            return code
        verb = verbs.TABLE.get(name)
        if verb is None or name not in commands():
            raise _not_found(name)
        code = yield from verbs.start(session, argv)
        return code

    def _expand(self, words: Sequence[shellline.Word]) -> Generator[Wait, None, list[str]]:
        """Patterns become the names that they match; without any they stay."""
        paths: list[str] | None = None
        found: list[str] = []
        for word in words:
            if not word.pattern:
                found.append(word.text)
                continue
            if paths is None:
                paths = yield from procfiles.paths(self.session)
            found += glob(word.text, self.session.cwd, paths) or [word.text]
        return found


def glob(pattern: str, cwd: str, paths: Sequence[str]) -> list[str]:
    """Names that a pattern matches, as it was written: relative ones stay so."""
    base = "/" if pattern.startswith("/") else ""
    found = [base]
    for part in pattern.strip("/").split("/"):
        longer = []
        for name in found:
            names = names_in(absolute(cwd, name), paths)
            if names is not None:
                entries = [part] if part in (".", "..") else fnmatch.filter(names, part)
                longer += [name + entry for entry in entries]
        found = [f"{name}/" for name in longer]
    return [name.rstrip("/") for name in found]


def _not_found(name: str) -> BottomhalfError:
    hint = f"not modelled{did_you_mean(name, commands())}; `help` lists what is"
    if name in verbs.TABLE:
        hint = f"that is no command of this machine; elsewhere: bottomhalf {name} ..."
    elif name in _FILTERS and shutil.which(name):
        hint = f"the host has it, behind a pipe: cat FILE | {name} ..."
    return BottomhalfError(f"{name}: command not found", hint, NOT_FOUND, "bash")


class _Host:
    """The host's part of a pipe. Whoever writes on after it has left is interrupted."""

    def __init__(self, line: str, session: Session) -> None:
        self._session = session
        self._gone = False
        direct = session.out is stdout
        self._output = None if direct else tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [HOST_SHELL, "-c", line], stdin=subprocess.PIPE, stdout=self._output, text=True
        )

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
        except BrokenPipeError:
            if not self._gone:
                self._session.signals.append(signal.SIGINT)
            self._gone = True

    def end(self) -> int:
        """Wait for it; its exit code as a shell has it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self._gone = True
        code = self._process.wait()
        if self._gone:
            self._session.signals.clear()
        if self._output is not None:
            self._output.seek(0)
            self._session.out(self._output.read())
            self._output.close()
        return 128 - code if code < 0 else code


# ---------------------------------------------------------------- builtins


@builtin("echo", "[-n] [-e] TEXT...")
def _echo(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    newline, escapes = "\n", False
    while argv and re.fullmatch(r"-[neE]+", argv[0]):
        newline = "" if "n" in argv[0] else newline
        escapes = argv[0].rfind("e") > argv[0].rfind("E") or (escapes and "E" not in argv[0])
        argv = argv[1:]
    text = " ".join(argv)
    if escapes:
        text = re.sub(r"\\([ntrab0\\])", lambda match: _ESCAPES[match[1]], text)
    session.out(text + newline)
    return OK


@builtin("cd", "[DIRECTORY]")
def _cd(shell: Shell, session: Session, argv: list[str]) -> Steps:
    given = argv[0] if argv else HOME
    path = absolute(session.cwd, HOME if given == "~" else given)
    paths = yield from procfiles.paths(session)
    if names_in(path, paths) is None:
        why = "Not a directory" if path in paths else "No such file or directory"
        raise BottomhalfError(f"cd: {given}: {why}", "", 1, "bash")
    shell.session.cwd = path
    return OK


@builtin("pwd", "")
def _pwd(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    session.out(f"{session.cwd}\n")
    return OK


@builtin("true", "")
def _true(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    return OK


@builtin("false", "")
def _false(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    return 1


@builtin("exit", "[CODE]")
def _exit(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    shell.left = True
    if argv and not re.fullmatch(r"\d+", argv[0]):
        raise BottomhalfError(f"exit: {argv[0]}: numeric argument required", "", USAGE, "bash")
    return int(argv[0]) & 0xFF if argv else shell.status


@builtin("sleep", "SECONDS")
def _sleep(shell: Shell, session: Session, argv: list[str]) -> Steps:
    if len(argv) != 1 or not re.fullmatch(r"\d+(\.\d*)?|\.\d+", argv[0]):
        shown = argv[0] if argv else ""
        raise BottomhalfError(f"invalid time interval '{shown}'", "sleep 0.5", 1, "sleep")
    yield from session.sleep(int(float(argv[0]) * 1e9))
    if session.signals:
        session.signals.clear()
        raise _InterruptedError
    return OK


def _boot(session: Session) -> Generator[Wait, None, Any]:
    tables = yield from procfiles.tables(session, "/proc/sys/kernel")
    return tables[session.machine.settings.cpu_names[0]]


@builtin("uname", "[-asnrvmo]")
def _uname(shell: Shell, session: Session, argv: list[str]) -> Steps:
    boot = yield from _boot(session)
    about = {
        "s": boot["sysctl"]["kernel/ostype"],
        "n": boot["sysctl"]["kernel/hostname"],
        "r": boot["sysctl"]["kernel/osrelease"],
        "v": boot["sysctl"]["kernel/version"],
        "m": "x86_64",
        "o": "GNU/Linux",
    }
    letters = "".join(word.lstrip("-") for word in argv) or "s"
    for letter in letters:
        if letter not in about and letter != "a":
            raise BottomhalfError(f"invalid option -- '{letter}'", "uname -a", 1, "uname")
    wanted = [text for key, text in about.items() if key in letters or "a" in letters]
    session.out(" ".join(wanted) + "\n")
    return OK


@builtin("hostname", "")
def _hostname(shell: Shell, session: Session, argv: list[str]) -> Steps:
    boot = yield from _boot(session)
    session.out(f"{boot['sysctl']['kernel/hostname']}\n")
    return OK


@builtin("nproc", "")
def _nproc(shell: Shell, session: Session, argv: list[str]) -> Steps:
    boot = yield from _boot(session)
    session.out(f"{len(boot['online'])}\n")
    return OK


@builtin("help", "")
def _help(shell: Shell, session: Session, argv: list[str]) -> Steps:
    yield from ()
    rows = [f"  {name} {usage}".rstrip() for name, usage in sorted(commands().items())]
    session.out("\n".join(rows) + "\n")
    session.out("  ; && || > >> $? and quotes are bash's; COMMAND | ... goes to the host's sh\n")
    return OK


# ---------------------------------------------------------------- the verb


def sh(session: Session, argv: Sequence[str]) -> Steps:
    """``sh -c LINE``, or lines from a terminal or a pipe until the end."""
    shell = Shell(session)
    if argv and argv[0] == "-c":
        if len(argv) != 2:
            what = "-c: option requires an argument" if len(argv) < 2 else f"{argv[2]}: one LINE"
            raise BottomhalfError(what, "bottomhalf sh -c 'nproc; uname -r'", USAGE, "bash")
        code = yield from shell.run(argv[1])
        return code
    if argv:
        raise BottomhalfError(
            f"sh has no option `{argv[0]}`" if argv[0].startswith("-") else "sh reads no file",
            "bottomhalf sh -c LINE · bottomhalf sh < FILE · bottomhalf sh",
            program=PROGRAM,
        )
    from orchestrator.shell.shellinput import Input  # noqa: PLC0415  (readline changes the terminal)

    with Input(session) as lines:
        while not shell.left:
            session.signals.clear()
            try:
                line = lines.read()
            except KeyboardInterrupt:
                shell.status = INTERRUPTED
                if not lines.terminal:
                    break
                continue
            if line is None:
                break
            yield from shell.run(line)
            if getattr(session.machine, "lost", False):
                raise BottomhalfError("the machine has ended", "bottomhalf up -d", 1)
    return shell.status
