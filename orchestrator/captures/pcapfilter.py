"""Filter expressions of tcpdump (pcap-filter(7)): compiled by libpcap, run by ``bpf``.

libpcap comes with tcpdump, tshark and Wireshark; it is asked through ``ctypes`` for the same
bytecode that it would give the kernel. Where there is none, a small language of our own remains:
``icmp arp ip udp``, ``[src|dst] host A``, ``ether host M``, ``broadcast``, ``and or not ( )``; and
anything else is refused by name. Names of the machine's hosts become addresses first, because
libpcap would look them up on this host.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address

from orchestrator.captures import bpf
from orchestrator.captures.bpf import Ancillary, Insn

_LIBRARIES = ("libpcap.so.1", "libpcap.so.0.8", "libpcap.so", "libpcap.dylib")
_SNAPLEN = 262144
_NETMASK_UNKNOWN = 0xFFFF_FFFF
LINKTYPE_ETHERNET = 1

#: (bytes of the packet, its length on the wire, what the kernel knows of it)
Filter = Callable[[bytes, int, Ancillary], bool]


class FilterError(Exception):
    """An expression that cannot be compiled, in libpcap's words or ours; the second is a hint."""


class _Insn(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    ]  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = [("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(_Insn))]


@cache
def library() -> ctypes.CDLL | None:
    """libpcap, if this host has it."""
    for name in _LIBRARIES:
        try:
            pcap = ctypes.CDLL(name)
        except OSError:
            continue
        pcap.pcap_open_dead.restype = ctypes.c_void_p
        pcap.pcap_geterr.restype = ctypes.c_char_p
        pcap.pcap_geterr.argtypes = [ctypes.c_void_p]
        pcap.pcap_close.argtypes = [ctypes.c_void_p]
        pcap.pcap_compile.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int,
            ctypes.c_uint32,
        ]  # fmt: skip
        return pcap
    return None


def compile_filter(
    expression: str, linktype: int = LINKTYPE_ETHERNET, hosts: Mapping[str, str] | None = None
) -> Filter:
    """The expression as a function of a packet; FilterError says what is wrong with it."""
    for name, address in (hosts or {}).items():
        expression = re.sub(rf"(?<![\w.:-]){re.escape(name)}(?![\w.:-])", address, expression)
    if not expression:
        return lambda data, length, known: True
    pcap = library()
    if pcap is None:
        if linktype != LINKTYPE_ETHERNET:
            raise FilterError("no libpcap here, and no filter of our own for `any`", _INSTALL)
        return _simple(expression)
    program = bytecode(pcap, expression, linktype)
    return lambda data, length, known: bpf.run(program, data, length, known) != 0


def bytecode(pcap: ctypes.CDLL, expression: str, linktype: int) -> list[Insn]:
    """pcap_compile, as ``tcpdump -dd`` shows it."""
    handle = pcap.pcap_open_dead(linktype, _SNAPLEN)
    program = _Program()
    try:
        text = expression.encode()
        if pcap.pcap_compile(handle, ctypes.byref(program), text, 1, _NETMASK_UNKNOWN):
            said = pcap.pcap_geterr(handle).decode("utf-8", "replace")
            raise FilterError(said, "man 7 pcap-filter; the words are tcpdump's")
        found = [
            Insn(one.code, one.jt, one.jf, one.k) for one in program.bf_insns[: program.bf_len]
        ]
        pcap.pcap_freecode(ctypes.byref(program))
        return found
    finally:
        pcap.pcap_close(handle)


# ---------------------------------------------------------------- without libpcap

_INSTALL = "apt install libpcap0.8 (it comes with tcpdump), or: tcpdump -w - | tcpdump -r - ..."
_WORDS = "icmp arp ip udp, [src|dst] host A, ether host M, broadcast, and or not ( )"
_KINDS: dict[str, tuple[tuple[int, bytes], ...]] = {
    "arp": ((12, b"\x08\x06"),),
    "ip": ((12, b"\x08\x00"),),
    "icmp": ((12, b"\x08\x00"), (23, b"\x01")),
    "udp": ((12, b"\x08\x00"), (23, b"\x11")),
    "broadcast": ((0, b"\xff" * 6),),
}
#: Where the addresses are: (ethertype, source, destination).
_ADDRESSES = ((b"\x08\x00", 26, 30), (b"\x08\x06", 28, 38))


def _simple(expression: str) -> Filter:
    """Our own small language."""
    words = re.findall(r"[()!]|&&|\|\||[^\s()!&|]+", expression)
    parser = _Parser([_SAME.get(word, word) for word in words], expression)
    test = parser.either()
    if parser.words:
        raise parser.refusal()
    return lambda data, length, known: test(data)


_SAME = {"&&": "and", "||": "or", "!": "not"}
_Test = Callable[[bytes], bool]


class _Parser:
    """``or`` binds as tightly as ``and``, from left to right, as in libpcap."""

    def __init__(self, words: list[str], expression: str) -> None:
        self.words = words
        self._expression = expression

    def refusal(self) -> FilterError:
        return FilterError(
            f"expression `{self._expression}` needs libpcap, which is not here",
            f"without it: {_WORDS}; {_INSTALL}",
        )

    def either(self) -> _Test:
        test = self._one()
        while self.words[:1] in (["and"], ["or"]):
            both = self.words.pop(0) == "and"
            test = _joined(test, self._one(), both)
        return test

    def _one(self) -> _Test:
        if not self.words:
            raise self.refusal()
        word = self.words.pop(0)
        if word == "not":
            inner = self._one()
            return lambda data: not inner(data)
        if word == "(":
            inner = self.either()
            if self.words[:1] != [")"]:
                raise self.refusal()
            self.words.pop(0)
            return inner
        if word in _KINDS:
            pairs = _KINDS[word]
            return lambda data: all(data[at : at + len(v)] == v for at, v in pairs)
        ends = (word,) if word in ("src", "dst") else ("src", "dst")
        if word in ("src", "dst") and self.words[:1] == ["host"]:
            word = self.words.pop(0)
        if word == "ether" and self.words[:1] == ["host"]:
            self.words.pop(0)
            return self._ether()
        if word in ("src", "dst", "host"):
            return self._host(ends)
        raise self.refusal()

    def _host(self, ends: tuple[str, ...]) -> _Test:
        try:
            wanted = IPv4Address(self.words.pop(0)).packed
        except (ValueError, IndexError):
            raise self.refusal() from None

        def test(data: bytes) -> bool:
            for ethertype, source, target in _ADDRESSES:
                if data[12:14] == ethertype:
                    places = [source] * ("src" in ends) + [target] * ("dst" in ends)
                    return any(data[at : at + 4] == wanted for at in places)
            return False

        return test

    def _ether(self) -> _Test:
        try:
            wanted = bytes.fromhex(self.words.pop(0).replace(":", ""))
        except (ValueError, IndexError):
            raise self.refusal() from None
        return lambda data: wanted in (data[:6], data[6:12])


def _joined(one: _Test, other: _Test, both: bool) -> _Test:
    if both:
        return lambda data: one(data) and other(data)
    return lambda data: one(data) or other(data)
