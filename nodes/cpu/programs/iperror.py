"""How ip says that something did not work."""

from __future__ import annotations

from nodes.cpu.programs.libc import strerror


class IpError(Exception):
    """What ip prints on stderr, and its exit code: 1 its own, 2 the kernel's, 255 a command."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def answers(error: int) -> IpError:
    """The kernel refused."""
    return IpError(f"RTNETLINK answers: {strerror(error)}", 2)
