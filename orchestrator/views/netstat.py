"""``netstat``: tables of net-tools from /proc/net/dev, udp and raw."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_ADDRESS_WIDTH, _PROGRAM_WIDTH = 23, 20
_ESTABLISHED = 1
#: In the order of ife_print_short.
_FLAGS = (
    (0x200, "A"), (0x2, "B"), (0x8, "L"), (0x1000, "M"), (0x80, "O"), (0x100, "P"), (0x800, "s"),
    (0x400, "m"), (0x40, "R"), (0x1, "U"),
)  # fmt: skip
INTERFACES = (
    "Kernel Interface table\n"
    "Iface             MTU    RX-OK RX-ERR RX-DRP RX-OVR    TX-OK TX-ERR TX-DRP TX-OVR Flg\n"
)


def interfaces(rows: Mapping[str, Sequence[int]], mtus: Mapping[str, int],
               flags: Mapping[str, int]) -> str:  # fmt: skip
    """``netstat -i``: the devices that are up."""
    text = INTERFACES
    for name, row in sorted(rows.items()):
        if not flags[name] & 1:
            continue
        letters = "".join(letter for flag, letter in _FLAGS if flags[name] & flag)
        text += (
            f"{name:<15} {mtus[name]:5d} {row[1]:8d} {row[2]:6d} {row[3]:6d} {row[4]:<6d} "
            f"{row[9]:8d} {row[10]:6d} {row[11]:6d} {row[12]:6d} {letters}\n"
        )
    return text


def header(*, listening: bool, programs: bool) -> str:
    """The two lines above the sockets."""
    which = "only servers" if listening else "w/o servers"
    line = "Proto Recv-Q Send-Q Local Address           Foreign Address         State      "
    return (
        f"Active Internet connections ({which})\n{line}"
        + (" PID/Program name    " if programs else "")
        + "\n"
    )


class Wanted(NamedTuple):
    """-l, -a and -p."""

    listening: bool
    everything: bool
    programs: bool


def sockets(protocol: str, text: str, owners: Mapping[int, str], wanted: Wanted) -> str:
    """Rows of a file like /proc/net/udp; ``owners``: "pid/name" by inode."""
    out = ""
    for line in text.splitlines()[1:]:
        fields = line.split()
        local, remote, state = fields[1], fields[2], int(fields[3], 16)
        connected = state == _ESTABLISHED
        if not wanted.everything and wanted.listening is connected:
            continue
        waits = int(fields[4].split(":")[1], 16)
        state_text = "ESTABLISHED" if connected else "7" if protocol == "raw" else ""
        out += (
            f"{protocol:<5} {waits:6d} {0:6d} {_end(local):<{_ADDRESS_WIDTH}} "
            f"{_end(remote):<{_ADDRESS_WIDTH}} {state_text:<11}"
        )
        if wanted.programs:
            out += f" {owners.get(int(fields[9]), '-'):<{_PROGRAM_WIDTH}}"
        out += "\n"
    return out


def _end(text: str) -> str:
    address, port = (int(part, 16) for part in text.split(":"))
    host = ipaddress.IPv4Address(address.to_bytes(4, "little"))
    return f"{host}:{port if port else '*'}"
