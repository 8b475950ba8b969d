"""strerror(3): what programs of the emulated machine print for an errno."""

from __future__ import annotations

import errno

_TEXTS = {
    errno.EPERM: "Operation not permitted",
    errno.ENOENT: "No such file or directory",
    errno.EIO: "Input/output error",
    errno.EAGAIN: "Resource temporarily unavailable",
    errno.ENOMEM: "Cannot allocate memory",
    errno.EACCES: "Permission denied",
    errno.EBUSY: "Device or resource busy",
    errno.EEXIST: "File exists",
    errno.ENODEV: "No such device",
    errno.EISDIR: "Is a directory",
    errno.EINVAL: "Invalid argument",
    errno.ENOSPC: "No space left on device",
    errno.ERANGE: "Numerical result out of range",
    errno.ENOTEMPTY: "Directory not empty",
    errno.EOVERFLOW: "Value too large for defined data type",
    errno.ETIMEDOUT: "Connection timed out",
    errno.ESRCH: "No such process",
    errno.ENETDOWN: "Network is down",
    errno.EOPNOTSUPP: "Operation not supported",
    errno.ENOBUFS: "No buffer space available",
    errno.ENETUNREACH: "Network is unreachable",
    errno.EHOSTUNREACH: "No route to host",
    errno.ECONNREFUSED: "Connection refused",
    errno.EADDRINUSE: "Address already in use",
    errno.EADDRNOTAVAIL: "Cannot assign requested address",
    errno.EDESTADDRREQ: "Destination address required",
    errno.EMSGSIZE: "Message too long",
    errno.ENOPROTOOPT: "Protocol not available",
    errno.EPROTO: "Protocol error",
}


def strerror(error: int) -> str:
    """Text of a positive or negative errno."""
    return _TEXTS.get(abs(error), f"Unknown error {abs(error)}")
