"""What a ping sends behind its header, and when each packet went and came."""

from __future__ import annotations

from nodes.cpu.programs.pingargs import PingOptions

#: What fits behind the ICMP header into a message that sendmsg(2) takes.
MESSAGE_BYTES_MAX = 65535 - 8


class PingTimes:
    """When each packet went and came: clock in ns, by sequence number from 1."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.sent: list[int] = []
        self.received: dict[int, int] = {}
        self.duplicates = 0


def filled(options: PingOptions) -> bytes:
    """The data of a request: 0, 1, 2, ... or the pattern; the first bytes become the time."""
    size = min(options.size, MESSAGE_BYTES_MAX + 1)
    if options.pattern:
        return (options.pattern * (size // len(options.pattern) + 1))[:size]
    return bytes(i & 0xFF for i in range(size))
