"""What a program that a scenario's step names will say to its words, asked before anything runs.

ping, arping and chcpu have their own parsers of the command line, and these are asked, so that a
step that can only end with a usage is refused with its file and line. Behind ``follow``, ``taps``,
``drops``, ``flows`` and ``ladder`` stand such commands too. What depends on the running machine is
left to it: devices, and names of other machines; so is what stands in a line for ``sh``, which may
mean to fail, but not its grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from nodes.cpu.programs import arpingargs, chcpu, pingargs, udpecho
from nodes.iputils import UsageError
from nodes.machine import MachineSettings
from orchestrator.errors import BottomhalfError, did_you_mean, listed
from orchestrator.machines.hosts import HOST
from orchestrator.shell import shellline
from orchestrator.verbs import TABLE, usage
from orchestrator.verbs.kernel import spoken
from orchestrator.verbs.programs import module_names

_PARSERS: dict[str, Callable[[Any, tuple[str, ...], Mapping[str, str]], object]] = {
    "ping": pingargs.parse,
    "arping": lambda _cpu, argv, known: arpingargs.parse(argv, known),
    "udp_echo": lambda _cpu, argv, known: udpecho.parse_echo(argv, known),
    "udp_send": lambda _cpu, argv, known: udpecho.parse_send(argv, known),
}
#: Verbs that run a command, and those that run several between words ``+``.
_ONE, _SEVERAL = ("follow", "taps", "drops"), ("flows", "ladder")
_ANY_ADDRESS = "0.0.0.1"


def complaint(settings: MachineSettings, argv: Sequence[str]) -> str:
    """The first line of what the program would end with; "" if it would run, or is unknown."""
    if argv[0] == "chcpu":
        return _of_chcpu(argv[1:])
    if argv[0] == "sh":
        return _of_sh(argv[1:])
    parse = _PARSERS.get(argv[0])
    if parse is None:
        return ""
    known = settings._replace(name=settings.hostname).hosts
    if settings.lan.join:  # hosts are known when their machines run
        known = {word: _ANY_ADDRESS for word in argv[1:] if HOST.fullmatch(word)} | known
    net = SimpleNamespace(device=lambda name: name, addresses=_Anything())
    try:
        parse(SimpleNamespace(net=net), tuple(argv), known)
    except UsageError as error:
        if error.out:  # its version
            return ""
        first = str(error).strip().partition("\n")[0]
        return first if first.startswith(argv[0]) else f"{argv[0]}: options and one host, please"
    return ""


def _of_chcpu(argv: Sequence[str]) -> str:
    try:
        letter, text = chcpu.parse(tuple(argv))
        if letter in "de":
            chcpu.cpulist_parse(text)
    except chcpu.ChcpuError as error:
        return str(error).partition("\n")[0]
    return ""


def _of_sh(argv: Sequence[str]) -> str:
    """The grammar alone: what its commands make of their words may be the point."""
    if len(argv) != 2 or argv[0] != "-c":
        return "bash: -c and one LINE, please"
    try:
        for command in shellline.split(argv[1]):
            shellline.words(command.text, 0)
    except BottomhalfError as error:
        return f"bash: {error.what}"
    return ""


def check(settings: MachineSettings, argv: Sequence[str]) -> None:
    """Raise the message for a step whose program would refuse its words."""
    if argv[0] == "insmod" and argv[1:] and argv[1] not in module_names():
        names = module_names()
        raise BottomhalfError(
            f"no module `{argv[1]}`{did_you_mean(argv[1], names)}", listed("modules:", names)
        )
    for command in _commands(argv):
        said = complaint(settings, command)
        if said:
            raise BottomhalfError(said, usage(command[0]))


def _commands(argv: Sequence[str]) -> list[tuple[str, ...]]:
    """The commands that a step runs: itself, or those that it looks at."""
    if argv[0] in _ONE:
        commands = [spoken(argv[1:])]
    elif argv[0] in _SEVERAL:
        from orchestrator.views.flows import apart  # noqa: PLC0415

        commands = apart(argv[1:])
    else:
        return [tuple(argv)]
    if not commands or not all(commands):
        raise BottomhalfError(f"{argv[0]}: which command?", usage(argv[0]))
    for command in commands:
        if argv[0] == "follow" and command[0] != "ping":
            raise BottomhalfError(f"follow knows ping alone, not `{command[0]}`", usage("follow"))
        if argv[0] == "ladder" and command[0] in TABLE:  # it runs our verbs too
            continue
        if not is_program(command[0]):
            near = did_you_mean(command[0], _programs())
            raise BottomhalfError(
                f"{argv[0]}: the machine has no program `{command[0]}`{near}", usage(argv[0])
            )
    return commands


def is_program(name: str) -> bool:
    """Can the emulated machine run it?"""
    return name in _programs()


def _programs() -> Collection[str]:
    from nodes.cpu import node  # noqa: F401, PLC0415  (importing it registers the programs)
    from nodes.cpu.programs.run import PROGRAMS  # noqa: PLC0415

    return PROGRAMS


class _Anything(tuple[bytes, ...]):
    """Whatever is looked for is there."""

    def __contains__(self, thing: object) -> bool:
        return True
