"""Names of other machines, for programs that look hosts up.

A machine's /etc/hosts has its own names and the gateway's from its start. The other machines come
and go, so a program gets a line for each of them that its words name when it is started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from nodes.machine import MachineSettings

#: A word that may be a machine's name.
HOST = re.compile(r"[a-z][a-z0-9-]*")
#: Programs whose words may be hosts.
ASK = ("ping", "arping", "udp_echo", "udp_send")


def lines(
    settings: MachineSettings, argv: Sequence[str], others: Callable[[], Mapping[str, str]]
) -> tuple[str, ...]:
    """Lines of /etc/hosts that the program needs beside its machine's own; ``others`` gives
    addresses of machines by name, and is asked only if a word may be one."""
    if not argv or argv[0] not in ASK:
        return ()
    strange = {word for word in argv[1:] if HOST.fullmatch(word)} - settings.hosts.keys()
    found = others() if strange else {}
    return tuple(f"{found[name]} {name}" for name in sorted(strange & found.keys()))
