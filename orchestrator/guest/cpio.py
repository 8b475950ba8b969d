"""cpio archives in the format ``newc``, as the kernel unpacks them into its first root.

Each entry is a header of fourteen numbers of eight hexadecimal digits, a name that ends in NUL, and
its data; name and data are each filled up to four bytes (Documentation/driver-api/early-userspace/
buffer-format.rst). Every file belongs to root and was made in 1970: the same tree gives the same
bytes. Not written: devices (devtmpfs brings them), hard links, checksums.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass
class Archive:
    """Files of an initramfs by their path without the first slash."""

    _entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def folder(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def names(self) -> list[str]:
        return sorted(self._entries)

    def pack(self) -> bytes:
        """The archive, folders before what is in them."""
        parts = []
        for number, name in enumerate(self.names(), start=1):
            mode, data = self._entries[name]
            parts.append(_entry(number, name, mode, data))
        parts.append(_entry(0, _TRAILER, 0, b""))
        return b"".join(parts)

    def _add(self, path: str, mode: int, data: bytes) -> None:
        above = path.rpartition("/")[0]
        if above and above not in self._entries:
            self.folder(above)
        self._entries[path] = (mode, data)


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    text = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
    header = _MAGIC + b"".join(b"%08x" % value for value in fields)
    return _filled(header + text) + _filled(data)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
