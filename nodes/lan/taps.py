"""Captures at the switch's ports, as a mirror port or a network tap would see them.

Who captures says in the LAN's packet ring which ports; the switch looks at that word once a turn
and copies what enters (a cable that is out lets nothing enter) and what leaves there, before
anything else can happen to it on the link.
"""

from __future__ import annotations

from bus.ram import TapRing

#: ``ifindex`` of port n in a capture, so that it is nobody's of the machine.
PORT_IFINDEX = 0x4000
_SNAPLEN = 65535


class PortTaps:
    """Which ports are tapped, and where the copies go."""

    def __init__(self, ring: TapRing) -> None:
        self._ring = ring
        self.ports = ring.ports

    def look(self) -> None:
        """Anything new in what is wanted? Once a turn."""
        self.ports = self._ring.ports

    def see(self, now_ns: int, port: int, frame: bytes, *, outgoing: bool) -> None:
        """A frame at a port; ``outgoing``: towards the host there."""
        if self.ports >> port & 1:
            self._ring.append(now_ns, PORT_IFINDEX + port, outgoing, 0, frame, _SNAPLEN)
