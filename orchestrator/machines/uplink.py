"""The TAP uplink: a real kernel as the host behind the switch, in a network namespace of its own.

``[lan] uplink = "tap"``: a small process (``bh:uplink``) makes a new network namespace, in it a TAP
device with the gateway's addresses, and hands the device's descriptor to the LAN's process. The
namespace is this process's alone: it ends with it, it is in nobody's list of names, and the host's
network is never touched: the process makes sure that it is in another namespace before it makes
anything. It ends when the orchestrator does, however that ends.

``bottomhalf --on uplink CMD`` runs a command of the host in it: the real ping, arping, tcpdump.
Linux only; needs CAP_NET_ADMIN and CAP_SYS_ADMIN (root).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bus.identity import die_with_parent, rename
from nodes.machine import GatewaySettings
from orchestrator.errors import BottomhalfError

#: File of the run directory: the pid of the namespace's process.
UPLINK_FILE = "uplink"
PROCESS_NAME = "bh:uplink"
DEVICE = "tap0"
PREFIX = 24
START_TIMEOUT_S = 10.0
_BOOT = (
    "import sys; sys.path[:] = {path!r}; "
    "from orchestrator.machines.uplink import hold; hold({args})"
)

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFHWADDR = 0x8916, 0x891C, 0x8924
_IFF_UP = 0x1
_ARPHRD_ETHER = 1
_HINT = "it needs root and /dev/net/tun; without `uplink` the LAN has a gateway of its own"


class Namespace:
    """The namespace and its TAP device, held by a process until ``close``."""

    def __init__(self, gateway: GatewaySettings) -> None:
        ours, theirs = socket.socketpair()
        path = [str(Path(__file__).parents[2]), *sys.path]
        args = f"{theirs.fileno()}, {os.getpid()}, {gateway.mac!r}, {list(gateway.addresses)!r}"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _BOOT.format(path=path, args=args)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours
        self.pid = self._process.pid
        self.tap_fd = -1
        ours.settimeout(START_TIMEOUT_S)
        try:
            said, fds, _, _ = socket.recv_fds(ours, 4096, 1)
        except OSError as error:
            said, fds = str(error).encode(), []
        if not fds:
            self.close()
            why = said.decode(errors="replace") or "its process ended without a word"
            raise BottomhalfError(f"no TAP uplink: {why}", _HINT)
        self.tap_fd = fds[0]
        os.set_inheritable(self.tap_fd, True)

    def close(self) -> None:
        """End the process, and with it and the last descriptor the namespace."""
        self._socket.close()
        if self.tap_fd >= 0:
            os.close(self.tap_fd)
            self.tap_fd = -1
        try:
            self._process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run(directory: Path, argv: Sequence[str]) -> None:
    """Become the command, in the namespace of the machine whose run directory this is."""
    try:
        pid = int((directory / UPLINK_FILE).read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise BottomhalfError(
            f"machine {directory.name} has no TAP uplink", '[lan] uplink = "tap"; needs root'
        ) from None
    if name != PROCESS_NAME:
        raise BottomhalfError("the process of the uplink is gone", "bottomhalf down")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise BottomhalfError(f"cannot enter the uplink's namespace: {why}", "it needs root")
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise BottomhalfError(
            f"{argv[0]}: {error.strerror}", "--on uplink runs this host's own programs", 127
        ) from None


# ---------------------------------------------------------------- the namespace's process


def hold(fd: int, parent: int, mac: bytes, addresses: Sequence[str]) -> None:
    """Main function of that process: make it all, hand over the descriptor, wait for the end."""
    sock = socket.socket(fileno=fd)
    try:
        die_with_parent(parent)
        rename(PROCESS_NAME)
        _new_namespace()
        tap = _make_tap(mac, addresses)
    except OSError as error:
        sock.send((error.strerror or str(error)).encode())
        os._exit(1)
    socket.send_fds(sock, [b"up"], [tap])
    os.close(tap)
    sock.recv(1)  # end of file: the machine is gone
    os._exit(0)


def _new_namespace() -> None:
    before = os.readlink("/proc/self/ns/net")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    if os.readlink("/proc/self/ns/net") == before:
        raise OSError(0, "the network namespace is not a new one")


def _make_tap(mac: bytes, addresses: Sequence[str]) -> int:
    """The device, up, with its addresses; its descriptor."""
    import fcntl  # noqa: PLC0415  (Linux only, as all of this)

    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def tell(request: int, name: str, value: bytes) -> bytes:
            packed = struct.pack("16s24s", name.encode(), value)
            return fcntl.ioctl(sock, request, packed)

        def up(name: str) -> None:
            flags = struct.unpack("16xH", tell(_SIOCGIFFLAGS, name, b"")[:18])[0]
            tell(_SIOCSIFFLAGS, name, struct.pack("H", flags | _IFF_UP))

        tell(_SIOCSIFHWADDR, DEVICE, struct.pack("H6s", _ARPHRD_ETHER, mac))
        mask = socket.inet_aton(".".join(["255"] * (PREFIX // 8) + ["0"] * (4 - PREFIX // 8)))
        for number, address in enumerate(addresses):
            name = f"{DEVICE}:{number}" if number else DEVICE
            tell(_SIOCSIFADDR, name, _sockaddr(socket.inet_aton(address)))
            tell(_SIOCSIFNETMASK, name, _sockaddr(mask))
        up(DEVICE)
        up("lo")
    return tap


def _sockaddr(address: bytes) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, address)
