"""What a program that a scenario's step names will say to its words, asked before anything runs.

ping and arping have their own parsers of the command line, and these are asked, so that a step that
can only end with a usage is refused with its file and line. Behind ``follow``, ``taps``, ``drops``,
``flows`` and ``ladder`` stand such commands too. What depends on the running machine is left to it:
devices, and names of other machines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from nodes.cpu.programs import arpingargs, pingargs
from nodes.machine import MachineSettings
from orchestrator.errors import BottomhalfError
from orchestrator.verbs import usage
from orchestrator.verbs.kernel import HOST, spoken

_PARSERS: dict[str, Callable[[Any, tuple[str, ...]], Any]] = {
    "ping": pingargs.parse,
    "arping": arpingargs.parse,
}
#: Verbs that run a command, and those that run several between words ``+``.
_ONE, _SEVERAL = ("follow", "taps", "drops"), ("flows", "ladder")
_ANY_ADDRESS = "0.0.0.1"


def complaint(settings: MachineSettings, argv: Sequence[str]) -> str:
    """The first line of what the program would end with; "" if it would run, or is unknown."""
    parse = _PARSERS.get(argv[0])
    if parse is None:
        return ""
    words = tuple(argv)
    if settings.lan.join:  # hosts are known when their machines run
        known = (argv[0], "gateway")
        words = tuple(_ANY_ADDRESS if HOST.fullmatch(w) and w not in known else w for w in words)
    net = SimpleNamespace(device=lambda name: name, addresses=_Anything())
    nobody: Any = SimpleNamespace(machine=settings._replace(name=settings.hostname), net=net)
    try:
        parse(nobody, words)
    except pingargs.UsageError as error:
        if error.out:  # its version
            return ""
        first = str(error).strip().partition("\n")[0]
        return first if first.startswith(argv[0]) else f"{argv[0]}: options and one host, please"
    return ""


def check(settings: MachineSettings, argv: Sequence[str]) -> None:
    """Raise the message for a step whose program would refuse its words."""
    if argv[0] in _ONE:
        commands = [spoken(argv[1:])]
    elif argv[0] in _SEVERAL:
        from orchestrator.flows import apart  # noqa: PLC0415

        commands = apart(argv[1:])
    else:
        commands = [tuple(argv)]
    for command in filter(None, commands):
        said = complaint(settings, command)
        if said:
            raise BottomhalfError(said, usage(command[0]))


class _Anything(tuple[bytes, ...]):
    """Whatever is looked for is there."""

    def __contains__(self, thing: object) -> bool:
        return True
