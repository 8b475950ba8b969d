"""``ip neigh``: show, add, replace, del, flush; after ip/ipneigh.c."""

from __future__ import annotations

import ipaddress
import re
from errno import EEXIST, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net import neighbour
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.programs import ipshow
from nodes.cpu.programs.iperror import IpError, answers
from nodes.cpu.programs.run import Process

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

_NUD = {
    "permanent": neighbour.NUD_PERMANENT, "reachable": neighbour.NUD_REACHABLE,
    "stale": neighbour.NUD_STALE, "noarp": neighbour.NUD_NOARP,
}  # fmt: skip
_COMMANDS = ("add", "change", "delete", "flush", "list", "lst", "replace", "show")


def do_ipneigh(cpu: Cpu, process: Process, words: list[str]) -> Context:
    """The words behind ``neigh``."""
    verb = words[0] if words else "show"
    command = next((name for name in _COMMANDS if name.startswith(verb)), "")
    if not command:
        raise IpError(f'Command "{verb}" is unknown, try "ip neigh help".', 255)
    rest = words[1:]
    if command in ("list", "lst", "show"):
        entries = _selected(cpu, rest)
        process.write("".join(ipshow.neigh_text(neigh) for neigh in entries))
        return
    if command == "flush":
        if not rest:
            raise IpError("Flush requires arguments.", 255)
        for neigh in _selected(cpu, [word for word in rest if word != "all"]):
            if neigh.state not in (neighbour.NUD_PERMANENT, neighbour.NUD_NOARP):
                yield from neighbour.neigh_delete(cpu, neigh)
        return
    yield from _modify(cpu, command, rest)


def _selected(cpu: Cpu, words: list[str]) -> list[neighbour.Neighbour]:
    """``[ADDRESS] [dev NAME]``."""
    rest, device, address = list(words), None, None
    while rest:
        word = rest.pop(0)
        if word == "dev" and rest:
            device = _device(cpu, rest.pop(0))
        else:
            address = _address(rest.pop(0) if word == "to" and rest else word)
    return [
        neigh
        for neigh in cpu.net.neighbours.entries.values()
        if device in (None, neigh.dev) and address in (None, neigh.address)
    ]


def _modify(cpu: Cpu, command: str, words: list[str]) -> Context:
    """ipneigh_modify, and neigh_add or neigh_delete behind it."""
    rest, address, mac, device = list(words), b"", b"", None
    state = neighbour.NUD_PERMANENT
    while rest:
        word = rest.pop(0)
        if word in ("dev", "lladdr", "nud") and not rest:
            raise IpError('Command line is not complete. Try option "help"', 255)
        if word == "dev":
            device = _device(cpu, rest.pop(0))
        elif word == "lladdr":
            mac = _mac(rest.pop(0))
        elif word == "nud":
            name = rest.pop(0)
            if name not in _NUD:
                raise IpError(f'Error: argument "{name}" is wrong: nud state is bad\n', 255)
            state = _NUD[name]
        elif not address:
            address = _address(word)
        else:
            raise IpError(f'Error: duplicate "to": "{word}" is the second value.\n', 255)
    if device is None or not address:
        raise IpError("Device and destination are required arguments.", 255)
    neigh = cpu.net.neighbours.entries.get(address)
    if command == "delete":
        if neigh is None:
            raise answers(ENOENT)
        yield from neighbour.neigh_delete(cpu, neigh)
    elif command == "add" and neigh is not None:
        raise answers(EEXIST)
    elif command == "change" and neigh is None:
        raise answers(ENOENT)
    else:
        yield from neighbour.neigh_add(cpu, address, device, mac, state)


def _device(cpu: Cpu, name: str) -> NetDevice:
    dev = cpu.net.device(name)
    if dev is None:
        raise IpError(f'Cannot find device "{name}"')
    return dev


def _address(text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise IpError(f'Error: inet address is expected rather than "{text}".\n') from None


def _mac(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", text):
        raise IpError(f'"{text}" is invalid lladdr.', 255)
    return bytes(int(part, 16) for part in text.split(":"))
