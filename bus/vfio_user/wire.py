"""The bytes of vfio-user: commands, limits, bodies, and the errors of those that do not fit.

A message is a header (id, command, size with header, flags, errno; little-endian) and a body.
"""

from __future__ import annotations

import errno
import json
import struct
from typing import Any

(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, _IO_FDS, GET_IRQ_INFO, SET_IRQS,
 REGION_READ, REGION_WRITE) = range(1, 11)  # fmt: skip
DEVICE_RESET, WRITE_MULTI = 13, 15
ADOPT = 0x6268  # ours
HEADER = struct.Struct("<HHIII")
REGION_BODY = struct.Struct("<QII")
#: A whole message: the posted write of one register.
POSTED_WRITE = struct.Struct("<HHIIIQIII")
MULTI_BODY = struct.Struct("<QIIQ")
MAP_BODY = struct.Struct("<IIQQQ")
UNMAP_BODY = struct.Struct("<IIQQ")
INFO_BODY = struct.Struct("<IIII")
REGION_INFO_BODY = struct.Struct("<IIIIQQ")
SET_IRQS_BODY = struct.Struct("<IIIII")
#: Type of a message in its flags, and what else they say.
TYPE, REPLY, NO_REPLY, ERROR = 0xF, 1, 0x10, 0x20
DATA_BYTES_MAX = 1 << 20
MESSAGE_BYTES_MAX = DATA_BYTES_MAX + 64
#: Descriptors in one message, as VERSION tells the client.
FDS_MAX = 8
#: Writes in one WRITE_MULTI.
MULTI_MAX = 256
PAGE = 4096

_CAPABILITIES = {
    "capabilities": {
        "max_msg_fds": FDS_MAX,
        "max_data_xfer_size": DATA_BYTES_MAX,
        "pgsizes": PAGE,
        "write_multiple": True,
    }
}


class ProtocolError(Exception):
    """The client does not speak vfio-user: nothing can be said to it any more."""


class RefusedError(Exception):
    """A command that does not fit; the errno of its error reply."""

    def __init__(self, code: int = errno.EINVAL) -> None:
        super().__init__(errno.errorcode[code])
        self.code = code


def command(number: int, name: int, body: bytes = b"", posted: bool = False) -> bytes:
    """A command as a client sends it."""
    flags = NO_REPLY if posted else 0
    return HEADER.pack(number, name, HEADER.size + len(body), flags, 0) + body


def version_body() -> bytes:
    """Body of VERSION: what this side can do."""
    return bytes(4) + json.dumps(_CAPABILITIES).encode() + b"\0"


def map_body(address: int, size: int, writable: bool, offset: int) -> bytes:
    """Body of DMA_MAP."""
    return MAP_BODY.pack(MAP_BODY.size, 3 if writable else 1, offset, address, size)


def unmap_body(address: int, size: int) -> bytes:
    """Body of DMA_UNMAP."""
    return UNMAP_BODY.pack(UNMAP_BODY.size, 0, address, size)


def size_at(stream: bytes, at: int) -> int:
    """Size of the message that begins at ``at``; of a header that is not there yet, its own."""
    if len(stream) - at < HEADER.size:
        return HEADER.size
    size = int.from_bytes(stream[at + 4 : at + 8], "little")
    if not HEADER.size <= size <= MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a message of {size} bytes")
    return size


def unpack(form: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """The fields of a body that is ``form`` and nothing else."""
    if len(body) != form.size:
        raise RefusedError
    return form.unpack(body)
