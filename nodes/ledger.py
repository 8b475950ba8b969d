"""The ledger's classes: every frame is an echo request, an echo reply or something else.

Nodes count frames by class at every hand-over (before sending, after taking) and at every place
where one can end. A field of three words in a page is such a counter: [other, request, reply].
"""

from __future__ import annotations

OTHER, REQUEST, REPLY = 0, 1, 2

_KIND = {8: REQUEST, 0: REPLY}


_TAG = b"\x81\x00"


def classify(frame: bytes) -> int:
    """Class of an Ethernet frame; one 802.1Q tag changes nothing (a switch may put it on or take it
    off). Fragments after the first count as other."""
    if (
        len(frame) > 34
        and frame[12:14] == b"\x08\x00"
        and frame[23] == 1
        and frame[14] == 0x45
        and not (frame[20] & 0x1F or frame[21])
    ):
        return _KIND.get(frame[34], OTHER)
    return classify(frame[:12] + frame[16:]) if frame[12:14] == _TAG else OTHER


def packet_key(frame: bytes) -> int:
    """class << 32 | ICMP id << 16 | ICMP sequence of an echo frame, 0 of any other."""
    kind = classify(frame)
    if not kind:
        return 0
    if frame[12:14] == _TAG:
        frame = frame[4:]
    return kind << 32 | int.from_bytes(frame[38:42], "big")
