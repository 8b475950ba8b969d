"""Two small programs over UDP: a server that sends everything back, and a client that asks it.

    udp_echo [-s ADDRESS] PORT                       until SIGINT; RFC 862
    udp_send [-c N] [-i S] [-s BYTES] [-w S] [-q] HOST PORT

They are ours, not Linux's: what ``nc -u -l -e cat`` and a loop around ``nc -u`` do. The client
connects its socket, so that a port unreachable comes back as its error. Its datagrams begin with a
sequence number of eight bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.sockmove import sock_moved, sock_pack, sock_unpack
from nodes.cpu.kernel.net.udp import (
    ANY,
    DATAGRAM_MAX,
    UdpSock,
    udp_bind,
    udp_close,
    udp_connect,
    udp_open,
    udp_recvmsg,
    udp_sendmsg,
)
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program, resumable
from nodes.getopt import GetoptError, getopt
from nodes.iputils import UsageError, getaddrinfo

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SEQUENCE_BYTES = 8
PORT_MAX = 65535
ECHO_USAGE = "udp_echo: usage: udp_echo [-s ADDRESS] PORT"
SEND_USAGE = "udp_send: usage: udp_send [-c N] [-i S] [-s BYTES] [-w S] [-q] HOST PORT"


def _words(argv: tuple[str, ...], letters: str, usage: str) -> Iterator[tuple[str, str]]:
    try:
        yield from getopt(argv[1:], letters)
    except GetoptError as error:
        raise UsageError(f"{argv[0]}: {error}\n{usage}") from None


def _number(program: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
        raise UsageError(f"{program}: `{text}` is not {low} to {high}")
    return int(text)


def _seconds(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86400:
        raise UsageError(f"udp_send: `{text}` is no number of seconds")
    return round(value * 1e9)


# ---------------------------------------------------------------- udp_echo


def parse_echo(argv: tuple[str, ...], hosts: Mapping[str, str]) -> tuple[bytes, int]:
    """Where the server listens; UsageError says what is wrong with the words."""
    address, operands = ANY, []
    for letter, text in _words(argv, "s:", ECHO_USAGE):
        if letter == "s":
            address = getaddrinfo("udp_echo", text, hosts)
        else:
            operands.append(text)
    if len(operands) != 1:
        raise UsageError(ECHO_USAGE)
    return address, _number("udp_echo", operands[0], 1, PORT_MAX)


@program("udp_echo")
def udp_echo(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """The server."""
    try:
        address, port = parse_echo(argv, process.hosts)
    except UsageError as usage:
        process.write(f"{usage}\n", STDERR)
        return 2
    sock = udp_open(cpu)
    error = yield from udp_bind(cpu, sock, address, port)
    if error:
        yield from udp_close(cpu, sock)
        process.write(f"udp_echo: bind: {strerror(error)}\n", STDERR)
        return 1
    process.write(f"listening on port {port}\n")
    code: int = yield from _serve(cpu, process, sock, 0)
    return code


def _serve(cpu: Cpu, process: Process, sock: UdpSock, served: int) -> Context:
    def pack() -> Any:
        return served, sock_pack(sock)

    while not process.task.signals or process.task.dest_cpu is not None:
        process.may_move(pack, lambda to: sock_moved(cpu, sock, to))
        yield USER
        got = yield from udp_recvmsg(cpu, sock)
        if isinstance(got, tuple):
            yield USER
            sent: int = yield from udp_sendmsg(cpu, sock, *got)
            served += sent >= 0
    yield from udp_close(cpu, sock)
    process.write(f"{served} datagrams sent back\n")
    return 0


@resumable("udp_echo")
def resume_echo(cpu: Cpu, process: Process, state: Any) -> Context:
    served, packed = state
    sock = sock_unpack(cpu, packed)
    assert isinstance(sock, UdpSock)
    return _serve(cpu, process, sock, served)


# ---------------------------------------------------------------- udp_send


@dataclass
class Client:
    """The client's options, and how far it is."""

    address: bytes = b""
    port: int = 0
    count: int = 1
    interval_ns: int = 1_000_000_000
    wait_ns: int = 1_000_000_000
    size: int = 64
    quiet: bool = False
    sent: int = 0
    received: int = 0
    errors: int = 0
    next_send: int = 0
    sent_at: int = 0


def parse_send(argv: tuple[str, ...], hosts: Mapping[str, str]) -> Client:
    """What the client is to do; UsageError says what is wrong with the words."""
    found, operands = Client(), []
    for letter, text in _words(argv, "qc:i:s:w:", SEND_USAGE):
        if letter == "q":
            found.quiet = True
        elif letter == "c":
            found.count = _number("udp_send", text, 1, 1_000_000_000)
        elif letter == "s":
            found.size = _number("udp_send", text, SEQUENCE_BYTES, DATAGRAM_MAX)
        elif letter == "i":
            found.interval_ns = _seconds(text)
        elif letter == "w":
            found.wait_ns = _seconds(text)
        else:
            operands.append(text)
    if len(operands) != 2:
        raise UsageError(SEND_USAGE)
    found.address = getaddrinfo("udp_send", operands[0], hosts)
    found.port = _number("udp_send", operands[1], 1, PORT_MAX)
    return found


@program("udp_send")
def udp_send(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """The client; exit code 0 if every datagram came back."""
    try:
        client = parse_send(argv, process.hosts)
    except UsageError as usage:
        process.write(f"{usage}\n", STDERR)
        return 2
    sock = udp_open(cpu)
    error = yield from udp_connect(cpu, sock, (client.address, client.port))
    if error:
        yield from udp_close(cpu, sock)
        process.write(f"udp_send: connect: {strerror(error)}\n", STDERR)
        return 2
    client.next_send = cpu.now()
    code: int = yield from _ask(cpu, process, sock, client)
    return code


def _ask(cpu: Cpu, process: Process, sock: UdpSock, client: Client) -> Context:
    """One datagram each interval (0: as soon as the last one is answered)."""
    while not process.task.signals or process.task.dest_cpu is not None:
        process.may_move(
            lambda: (asdict(client), sock_pack(sock)),
            lambda target: sock_moved(cpu, sock, target),
        )
        settled = client.received + client.errors
        if settled >= client.count:
            break
        more = client.sent < client.count
        due = client.next_send if client.interval_ns else client.sent_at + client.wait_ns
        if not client.interval_ns and settled == client.sent:
            due = 0
        if more and cpu.now() >= due:
            yield from _send_one(cpu, process, sock, client)
            continue
        until = due if more else client.sent_at + client.wait_ns
        if cpu.now() >= until:
            break
        got = yield from udp_recvmsg(cpu, sock, until)
        if isinstance(got, tuple):
            _answer(cpu, process, client, got)
        elif got is not None:
            client.errors += 1
            process.write(f"udp_send: recv: {strerror(got)}\n", STDERR)
        yield USER
    yield from udp_close(cpu, sock)
    lost = client.sent - client.received
    process.write(f"{client.sent} sent, {client.received} received, {lost} lost\n")
    return int(lost > 0)


def _send_one(cpu: Cpu, process: Process, sock: UdpSock, client: Client) -> Context:
    client.sent += 1
    client.sent_at = cpu.now()
    client.next_send = max(client.next_send + client.interval_ns, client.sent_at)
    data = client.sent.to_bytes(SEQUENCE_BYTES, "big") + bytes(client.size - SEQUENCE_BYTES)
    error: int = yield from udp_sendmsg(cpu, sock, data)
    if error < 0:
        client.errors += 1
        process.write(f"udp_send: send: {strerror(error)}\n", STDERR)
    yield USER


def _answer(cpu: Cpu, process: Process, client: Client, got: tuple[bytes, Any]) -> None:
    data, (address, port) = got
    client.received += 1
    if client.quiet:
        return
    sequence = int.from_bytes(data[:SEQUENCE_BYTES], "big")
    text = ".".join(str(octet) for octet in address)
    us = (cpu.now() - client.sent_at) // 1000
    line = f"{len(data)} bytes from {text}:{port}: seq={sequence}"
    if sequence == client.sent:
        line += f" time={us // 1000}.{us % 1000:03d} ms"
    process.write(line + "\n")


@resumable("udp_send")
def resume_send(cpu: Cpu, process: Process, state: Any) -> Context:
    fields, packed = state
    sock = sock_unpack(cpu, packed)
    assert isinstance(sock, UdpSock)
    return _ask(cpu, process, sock, Client(**fields))
