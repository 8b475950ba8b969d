"""QEMU's machine protocol, as far as slots need it: ``device_add`` and ``device_del``.

JSON, a value a line: QEMU greets, wants ``qmp_capabilities`` first, answers each command with
``return`` or ``error``, and tells events in between (docs/interop/qmp-spec.rst). Commands wait for
their answer, with a guard: QEMU answers at once or is hung.
"""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

#: QEMU's own limit for a message to a NIC is 5 s, and it may be within one.
_ANSWER_S = 10.0


class QmpError(Exception):
    """QEMU refused a command, or is gone; the text says what it said."""


class Qmp:
    """Our end of the monitor."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""
        self._greeted = False

    def execute(self, command: str, **arguments: Any) -> Any:
        """One command; its value."""
        if not self._greeted:
            self._next("QMP")
            self._greeted = True
            self.execute("qmp_capabilities")
        asked = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        try:
            self._socket.sendall(asked)
        except OSError as error:
            raise QmpError(f"QEMU is gone ({error.strerror})") from None
        said = self._next("return", "error")
        if "error" in said:
            raise QmpError(str(said["error"].get("desc", said["error"])))
        return said["return"]

    def close(self) -> None:
        self._socket.close()

    def _next(self, *wanted: str) -> dict[str, Any]:
        """The next message with one of these keys; events before it are let go."""
        deadline = time.monotonic() + _ANSWER_S
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                message: dict[str, Any] = json.loads(line)
                if any(key in message for key in wanted):
                    return message
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._socket], [], [], left_s)[0]:
                raise QmpError(f"QEMU does not answer within {_ANSWER_S:.0f} s")
            data = self._socket.recv(1 << 16)
            if not data:
                raise QmpError("QEMU is gone")
            self._received += data
