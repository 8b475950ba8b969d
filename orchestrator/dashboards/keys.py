"""Keys from the bytes of a terminal in cbreak mode."""

from __future__ import annotations

_SEQUENCES = {
    b"\x1b[D": "left",
    b"\x1b[C": "right",
    b"\x1bOD": "left",
    b"\x1bOC": "right",
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
}
_ESC = 0x1B
_SEQUENCE_BYTES_MAX = 16


class Keys:
    """Collects bytes; a lone Esc is told from the begin of a sequence by the silence after it."""

    def __init__(self) -> None:
        self._bytes = b""

    @property
    def undecided(self) -> bool:
        """An Esc came and nothing after it yet."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> list[str]:
        """Keys that are complete with ``data``; no data means that a moment passed in silence."""
        if not data:
            lone, self._bytes = self._bytes, b""
            return ["esc"] if lone else []
        self._bytes += data
        keys = []
        while self._bytes:
            length = self._length()
            if not length:
                break
            token, self._bytes = self._bytes[:length], self._bytes[length:]
            if token[0] == _ESC:
                keys.append(_SEQUENCES.get(token, "esc" if length == 1 else "unknown"))
            elif token in b"\r\n":
                keys.append("enter")
            elif token.isascii() and token.decode().isprintable():
                keys.append(token.decode())
        return keys

    def _length(self) -> int:
        """Bytes of the first key; 0 if it is not complete."""
        data = self._bytes
        if data[0] != _ESC:
            return 1
        if len(data) == 1:
            return 0
        if data[1] not in b"[O":
            return 1
        for at in range(2, min(len(data), _SEQUENCE_BYTES_MAX)):
            if 0x40 <= data[at] <= 0x7E:
                return at + 1
        return 0 if len(data) < _SEQUENCE_BYTES_MAX else len(data)
