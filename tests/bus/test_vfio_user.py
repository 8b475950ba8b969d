"""The vfio-user protocol without a socket: bytes and descriptors in, requests and bytes out."""

from __future__ import annotations

import errno
import random
import struct

import pytest

from bus import vfio_user as v
from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    GuestReset,
    GuestTrigger,
    GuestUnmap,
    GuestVectors,
    IntxMessage,
    MemRead,
    MemWrite,
)

CARD = v.Card((0x80000, 0, 32, 0, 0x4000, 0, 0, 4096, 0), (1, 1, 64, 1, 0))
HEADER = struct.Struct("<HHIII")
PAGE = 4096


def message(command: int, body: bytes = b"", number: int = 1, flags: int = 0) -> bytes:
    return HEADER.pack(number, command, 16 + len(body), flags, 0) + body


def access(region: int, offset: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<QII", offset, region, count) + data


def irqs(flags: int, index: int, start: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<IIIII", 20 + len(data), flags, index, start, count) + data


class Talk:
    """A server that has agreed on VERSION, and what it said since."""

    def __init__(self, greet: bool = True) -> None:
        self.remarks: list[str] = []
        self.server = v.Server(CARD, self.remarks.append)
        if greet:
            self.server.receive(message(v.VERSION, bytes(4) + b"{}\0"))
            assert self.replies()[0][0] == v.VERSION

    def replies(self) -> list[tuple[int, int, bytes]]:
        """(command, errno, body) of each."""
        data, out = bytes(self.server.output), []
        self.server.output.clear()
        while data:
            _, command, size, flags, code = HEADER.unpack_from(data)
            assert flags == (0x21 if code else 1)
            out.append((command, code, data[16:size]))
            data = data[size:]
        return out

    def say(self, command: int, body: bytes = b"", fds: tuple[int, ...] = ()) -> list[object]:
        """Requests to the device that a command makes."""
        self.server.receive(message(command, body), fds)
        requests, self.server.requests = self.server.requests, []
        return requests

    def error(self, command: int, body: bytes = b"", fds: tuple[int, ...] = ()) -> int:
        """The errno of its error reply; nothing is asked of the device."""
        assert self.say(command, body, fds) == []
        ((_, code, rest),) = self.replies()
        assert not rest
        return code


@pytest.fixture
def talk() -> Talk:
    return Talk()


# ---------------------------------------------------------------- messages


def test_a_message_may_come_in_any_pieces(talk: Talk) -> None:
    data = message(v.REGION_WRITE, access(0, 0x10, 4, b"\1\2\3\4"), flags=0x10)
    for byte in data + data:
        talk.server.receive(bytes([byte]))
    assert talk.server.requests == [MemWrite(0, 0x10, 0x04030201)] * 2
    assert talk.replies() == []


def test_descriptors_belong_to_the_last_message_that_begins_in_a_read(talk: Talk) -> None:
    info = message(v.GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    arm = message(v.SET_IRQS, irqs(0x24, v.MSIX, 0, 2))
    talk.server.receive(info + arm[:20], [70, 71])
    assert talk.server.unused == []
    talk.server.receive(arm[20:] + info)
    assert talk.server.requests == [GuestVectors(1, v.MSIX, 3)]
    talk.server.take(GuestTrigger(v.MSIX, 1))
    assert talk.server.signals == [71]


def test_answers_keep_the_order_of_the_questions(talk: Talk) -> None:
    talk.say(v.REGION_READ, access(0, 0, 4))
    talk.say(v.GET_IRQ_INFO, struct.pack("<IIII", 16, 0, v.MSIX, 0))
    assert talk.replies() == []
    talk.server.take(Completion(1, 0xABCD))
    first, second = talk.replies()
    assert first == (v.REGION_READ, 0, access(0, 0, 4, b"\xcd\xab\0\0"))
    assert second == (v.GET_IRQ_INFO, 0, struct.pack("<IIII", 16, 9, 2, 64))


def test_an_answer_to_an_earlier_connection_is_not_taken_for_one(talk: Talk) -> None:
    following = v.Server(CARD, print, talk.server.tag)
    talk.say(v.REGION_READ, access(0, 0, 4))
    following = v.Server(CARD, print, talk.server.tag)
    following.receive(message(v.VERSION, bytes(4)))
    following.receive(message(v.REGION_READ, access(0, 0, 4)))
    following.output.clear()
    following.take(Completion(1, 7))
    assert following.output == b""
    following.take(Completion(2, 7))
    assert following.output


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(1, v.VERSION, 15, 0, 0),
        HEADER.pack(1, v.VERSION, 1 << 30, 0, 0),
        HEADER.pack(1, v.VERSION, 16, 1, 0),
        message(v.GET_INFO, bytes(16)),
    ],
    ids=["too small", "too large", "a reply", "before VERSION"],
)
def test_what_cannot_be_vfio_user_ends_the_connection(data: bytes) -> None:
    with pytest.raises(v.ProtocolError):
        Talk(greet=False).server.receive(data)


def test_descriptors_in_the_middle_of_a_message_end_the_connection(talk: Talk) -> None:
    data = message(v.SET_IRQS, irqs(0x24, v.MSIX, 0, 1))
    talk.server.receive(data[:20], [70])
    with pytest.raises(v.ProtocolError):
        talk.server.receive(data[20:30], [71])
    assert sorted(talk.server.abandon()) == [70, 71]


def test_a_flood_of_reads_ends_the_connection(talk: Talk) -> None:
    whole = message(v.REGION_READ, access(7, 0, 4096))
    with pytest.raises(v.ProtocolError):
        talk.server.receive(whole * 20)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", 22), (b"\1\0\0\0{}\0", 22), (b"\0\0\0\0{\0", 22), (b"\0\0\0\0[]\0", 22)],
    ids=["empty", "major 1", "half an object", "a list"],
)
def test_a_version_that_does_not_fit_is_refused(body: bytes, code: int) -> None:
    talk = Talk(greet=False)
    assert talk.error(v.VERSION, body) == code
    assert not talk.server.ready


def test_an_unknown_command_is_refused_and_a_posted_one_forgotten(talk: Talk) -> None:
    assert talk.error(99) == errno.ENOSYS
    talk.server.receive(message(99, flags=0x10))
    assert talk.replies() == []


# ---------------------------------------------------------------- regions


def test_configuration_space_is_read_in_aligned_pieces(talk: Talk) -> None:
    requests = talk.say(v.REGION_READ, access(7, 1, 7))
    assert requests == [CfgRead(1, 1, 1), CfgRead(2, 2, 2), CfgRead(3, 4, 4)]
    for tag, value in ((1, 0x11), (2, 0x3322), (3, 0x77665544)):
        talk.server.take(Completion(tag, value))
    assert talk.replies()[0][2][16:] == bytes.fromhex("11223344556677")


def test_a_configuration_write_is_answered_when_it_is_done(talk: Talk) -> None:
    assert talk.say(v.REGION_WRITE, access(7, 4, 2, b"\6\0")) == [CfgWrite(1, 4, 2, 6)]
    assert talk.replies() == []
    talk.server.take(Completion(1, 0))
    assert talk.replies() == [(v.REGION_WRITE, 0, access(7, 4, 2))]


def test_narrow_reads_of_a_bar_are_cut_out_and_wide_ones_are_two(talk: Talk) -> None:
    assert talk.say(v.REGION_READ, access(0, 6, 2)) == [MemRead(1, 0, 4)]
    talk.server.take(Completion(1, 0xAABBCCDD))
    assert talk.replies()[0][2][16:] == b"\xbb\xaa"
    assert talk.say(v.REGION_READ, access(0, 8, 8)) == [MemRead(2, 0, 8), MemRead(3, 0, 12)]


def test_narrow_writes_of_a_bar_do_nothing(talk: Talk) -> None:
    assert talk.say(v.REGION_WRITE, access(0, 8, 1, b"\1")) == []
    assert talk.replies() == [(v.REGION_WRITE, 0, access(0, 8, 1))]


def test_several_writes_in_one_message(talk: Talk) -> None:
    one = struct.pack("<QIIQ", 0x10, 0, 4, 5)
    two = struct.pack("<QIIQ", 0x18, 0, 8, 6 << 32)
    requests = talk.say(v.WRITE_MULTI, struct.pack("<Q", 2) + one + two)
    assert requests == [MemWrite(0, 0x10, 5), MemWrite(0, 0x18, 0), MemWrite(0, 0x1C, 6)]
    assert talk.replies() == [(v.WRITE_MULTI, 0, struct.pack("<Q", 2))]


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [(0, 0x80000, 4), (0, 0x7FFFE, 4), (1, 0, 4), (9, 0, 4), (0, 2, 4), (0, 0, 3), (0, 0, 0),
     (7, 4095, 2), (0, 1 << 63, 4), (0xFFFFFFFF, 0, 4)],
)  # fmt: skip
def test_accesses_outside_of_what_there_is_are_refused(
    talk: Talk, region: int, offset: int, count: int
) -> None:
    assert talk.error(v.REGION_READ, access(region, offset, count)) == errno.EINVAL
    if count < 16:
        data = access(region, offset, count, bytes(count))
        assert talk.error(v.REGION_WRITE, data) == errno.EINVAL


def test_a_write_whose_data_are_missing_is_refused(talk: Talk) -> None:
    assert talk.error(v.REGION_WRITE, access(0, 0, 8, bytes(4))) == errno.EINVAL


# ---------------------------------------------------------------- memory


def mapping(flags: int = 3, offset: int = 0, address: int = 0, size: int = PAGE) -> bytes:
    return struct.pack("<IIQQQ", 32, flags, offset, address, size)


def test_a_mapping_goes_to_the_owner_of_descriptors(talk: Talk) -> None:
    assert talk.say(v.DMA_MAP, mapping(3, PAGE, 16 * PAGE, 2 * PAGE), (70,)) == [
        v.Map(1, 16 * PAGE, 2 * PAGE, True, 70, PAGE)
    ]
    assert talk.server.unused == []
    talk.server.take(Completion(1, 0))
    assert talk.replies() == [(v.DMA_MAP, 0, b"")]


def test_a_mapping_that_overlaps_or_cannot_be_is_an_error_reply(talk: Talk) -> None:
    talk.say(v.DMA_MAP, mapping(), (70,))
    talk.say(v.DMA_MAP, mapping(), (71,))
    talk.server.refuse(2, errno.EINVAL)
    talk.server.take(Completion(1, errno.EEXIST))
    assert [code for _, code, _ in talk.replies()] == [errno.EEXIST, errno.EINVAL]


def test_memory_without_a_descriptor_is_remarked_once(talk: Talk) -> None:
    talk.say(v.DMA_MAP, mapping(1))  # a ROM: nobody writes there
    assert talk.remarks == []
    talk.say(v.DMA_MAP, mapping())
    talk.say(v.DMA_MAP, mapping(address=PAGE))
    assert len(talk.remarks) == 1
    assert "share=on" in talk.remarks[0]


@pytest.mark.parametrize(
    "body",
    [mapping(0), mapping(4), mapping(offset=1), mapping(address=1), mapping(size=0),
     mapping(size=100), mapping(address=(1 << 64) - PAGE, size=2 * PAGE), mapping()[:-1]],
)  # fmt: skip
def test_mappings_that_are_none_are_refused_and_their_descriptor_closed(
    talk: Talk, body: bytes
) -> None:
    assert talk.error(v.DMA_MAP, body, (70,)) == errno.EINVAL
    assert talk.server.unused == [70]


def test_an_unmapping_is_echoed(talk: Talk) -> None:
    body = struct.pack("<IIQQ", 24, 0, PAGE, PAGE)
    assert talk.say(v.DMA_UNMAP, body) == [GuestUnmap(1, PAGE, PAGE)]
    talk.server.take(Completion(1, 0))
    assert talk.replies() == [(v.DMA_UNMAP, 0, body)]


def test_a_reset_is_answered_when_it_is_done(talk: Talk) -> None:
    assert talk.say(v.DEVICE_RESET) == [GuestReset(1)]
    assert talk.replies() == []
    talk.server.take(Completion(1, 0))
    assert talk.replies() == [(v.DEVICE_RESET, 0, b"")]


# ---------------------------------------------------------------- interrupts


def test_vectors_are_armed_replaced_and_taken_away(talk: Talk) -> None:
    assert talk.say(v.SET_IRQS, irqs(0x24, v.MSIX, 1, 2), (70, 71)) == [GuestVectors(1, 2, 6)]
    assert talk.say(v.SET_IRQS, irqs(0x24, v.MSIX, 2, 1), (72,)) == [GuestVectors(2, 2, 6)]
    assert talk.server.unused == [71]
    assert talk.say(v.SET_IRQS, irqs(0x24, v.MSIX, 1, 1)) == [GuestVectors(3, 2, 4)]
    assert talk.say(v.SET_IRQS, irqs(0x21, v.MSIX, 0, 0)) == [GuestVectors(4, 2, 0)]
    assert talk.server.unused == [71, 70, 72]
    assert not talk.server.take(GuestTrigger(v.MSIX, 2))


def test_a_level_is_masked_by_its_signal_until_it_is_unmasked(talk: Talk) -> None:
    talk.say(v.SET_IRQS, irqs(0x24, v.INTX, 0, 1), (70,))
    signals = talk.server.signals
    talk.server.take(IntxMessage(1, 1))
    talk.server.take(IntxMessage(1, 0))
    talk.server.take(IntxMessage(1, 1))
    assert signals == [70]
    talk.say(v.SET_IRQS, irqs(0x11, v.INTX, 0, 1))
    assert signals == [70, 70]
    talk.server.take(IntxMessage(1, 0))
    talk.server.unmask()
    assert signals == [70, 70]
    talk.say(v.SET_IRQS, irqs(0x0A, v.INTX, 0, 1, b"\1"))  # MASK
    talk.server.take(IntxMessage(1, 1))
    assert signals == [70, 70]


def test_a_client_may_trigger_its_own_eventfds(talk: Talk) -> None:
    talk.say(v.SET_IRQS, irqs(0x24, v.MSIX, 0, 2), (70, 71))
    talk.say(v.SET_IRQS, irqs(0x22, v.MSIX, 0, 2, b"\0\1"))
    assert talk.server.signals == [71]


@pytest.mark.parametrize(
    ("body", "fds"),
    [
        (irqs(0x24, v.MSIX, 0, 65), ()),
        (irqs(0x24, v.MSIX, 63, 2), (70, 71)),
        (irqs(0x24, v.MSIX, 0, 2), (70,)),
        (irqs(0x24, 4, 0, 1), (70,)),
        (irqs(0x24, 9, 0, 1), (70,)),
        (irqs(0x11, v.MSIX, 0, 1), ()),
        (irqs(0x32, v.INTX, 0, 1, b"\1"), ()),
        (irqs(0x22, v.MSIX, 0, 4, b"\1"), ()),
        (irqs(0x23, v.MSIX, 0, 1), ()),
        (b"", ()),
    ],
)
def test_interrupts_that_there_are_not_are_refused(
    talk: Talk, body: bytes, fds: tuple[int, ...]
) -> None:
    assert talk.error(v.SET_IRQS, body, fds) == errno.EINVAL
    assert talk.server.unused == list(fds)


# ---------------------------------------------------------------- rubbish


@pytest.mark.parametrize("seed", range(20))
def test_no_bytes_end_the_server_but_by_its_own_word(seed: int) -> None:
    rng = random.Random(seed)
    talk = Talk()
    given = 0
    commands = [*range(20), v.REGION_READ, v.REGION_WRITE, v.SET_IRQS, v.DMA_MAP]
    bodies = [access(7, 0, 4), access(0, 8, 4, bytes(4)), irqs(0x24, 2, 0, 1), mapping(),
              struct.pack("<IIII", 16, 0, 1, 0), bytes(32), b""]  # fmt: skip
    seen: list[int] = []
    try:
        for _ in range(200):
            body = bytearray(rng.choice(bodies))
            for _ in range(rng.randrange(4)):
                if body:
                    body[rng.randrange(len(body))] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
            data = message(rng.choice(commands), bytes(body), flags=rng.choice((0, 0, 0x10)))
            cut = rng.randrange(1, len(data) + 1)
            fds = list(range(1000 + given, 1000 + given + rng.choice((0, 0, 1, 2))))
            given += len(fds)
            talk.server.receive(data[:cut], fds)
            talk.server.receive(data[cut:])
            for request in talk.server.requests:
                if isinstance(request, v.Map) and request.fd >= 0:
                    seen.append(request.fd)
                if hasattr(request, "tag") and rng.random() < 0.9:
                    talk.server.take(Completion(request.tag, rng.choice((0, 0, errno.EEXIST))))
            talk.server.requests.clear()
    except v.ProtocolError:
        seen += [r.fd for r in talk.server.requests if isinstance(r, v.Map) and r.fd >= 0]
    seen += talk.server.abandon()
    assert sorted(seen) == list(range(1000, 1000 + given))  # each is closed once
