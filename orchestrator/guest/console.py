"""The guest's console on this terminal: bytes both ways, until Ctrl-] or the guest's end.

QEMU listens on the console's socket, for one reader at a time; what came before is in its log.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from orchestrator.errors import BottomhalfError
from orchestrator.guest import qemu
from orchestrator.machines.client import connect_to

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
LEFT, ENDED = "left", "ended"
_SHOWN_BYTES = 4096


def attach(directory: Path, backlog: bool = True) -> str:
    """Copy until the person leaves or the guest ends: which of the two."""
    if not sys.stdin.isatty():
        raise BottomhalfError(
            "guest --console needs a terminal", "bottomhalf guest exec 'COMMAND' works without"
        )
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with line:
        try:
            connect_to(line, str(directory / qemu.CONSOLE))
        except OSError as error:
            raise BottomhalfError(
                f"no console to attach to: {error.strerror}", "bottomhalf ps shows what runs"
            ) from None
        before = termios.tcgetattr(0)
        try:
            tty.setraw(0)
            if backlog:
                log = (directory / qemu.CONSOLE_LOG).read_bytes()
                _write(log[-_SHOWN_BYTES:])
            try:
                return _copy(line)
            except (BrokenPipeError, ConnectionResetError):  # it ended while somebody typed
                return ENDED
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
            sys.stdout.write("\r\n")
            sys.stdout.flush()


def _copy(line: socket.socket) -> str:
    while True:
        for ready in select.select([0, line.fileno()], [], [])[0]:
            if ready == 0:
                typed = os.read(0, 4096)
                if not typed or LEAVE in typed:
                    return LEFT
                line.sendall(typed)
            else:
                said = line.recv(1 << 16)
                if not said:
                    return ENDED
                _write(said)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
