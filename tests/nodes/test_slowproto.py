"""The Slow Protocols' frames: scapy and tshark read what we write, we read what scapy writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.contrib.lacp import LACP, MarkerProtocol, SlowProtocol
from scapy.layers.l2 import Ether
from scapy.packet import NoPayload
from scapy.utils import wrpcap

from nodes.slowproto import (
    MARKER_INFORMATION,
    MARKER_RESPONSE,
    Lacpdu,
    Marker,
    PortParams,
    lacpdu_frame,
    lacpdu_from,
    marker_frame,
    marker_from,
    state_names,
)

ME = bytes.fromhex("001b21000001")
PDU = Lacpdu(
    PortParams(65535, bytes.fromhex("001b21000001"), 15, 255, 1, 0x4F),
    PortParams(32768, bytes.fromhex("020000000002"), 1, 32768, 7, 0x3D),
    0,
)
MARKER = Marker(MARKER_INFORMATION, 7, bytes.fromhex("020000000002"), 0x01020304)


def test_scapy_reads_a_lacpdu_field_by_field() -> None:
    frame = lacpdu_frame(ME, PDU)
    assert len(frame) == 124
    packet = Ether(frame)
    assert (packet.dst, packet.src) == ("01:80:c2:00:00:02", "00:1b:21:00:00:01")
    lacp = packet[SlowProtocol][LACP]
    assert (lacp.version, lacp.actor_type, lacp.actor_length) == (1, 1, 20)
    assert (lacp.actor_system_priority, lacp.actor_system) == (65535, "00:1b:21:00:00:01")
    assert (lacp.actor_key, lacp.actor_port_priority) == (15, 255)
    assert (lacp.actor_port_number, lacp.actor_state) == (1, 0x4F)
    assert (lacp.partner_type, lacp.partner_length) == (2, 20)
    assert (lacp.partner_system, lacp.partner_port_number) == ("02:00:00:00:00:02", 7)
    assert (lacp.partner_key, lacp.partner_state) == (1, 0x3D)
    assert (lacp.collector_type, lacp.collector_length, lacp.collector_max_delay) == (3, 16, 0)
    assert (lacp.terminator_type, lacp.terminator_length) == (0, 0)
    assert isinstance(lacp.payload, NoPayload)


def test_scapys_lacpdu_is_read_back_the_same() -> None:
    lacp = LACP(
        actor_system_priority=1, actor_system="02:00:00:00:00:09", actor_key=2,
        actor_port_priority=3, actor_port_number=4, actor_state=5,
        partner_system_priority=6, partner_system="02:00:00:00:00:08", partner_key=7,
        partner_port_priority=8, partner_port_number=9, partner_state=10,
        collector_max_delay=11,
    )  # fmt: skip
    frame = bytes(Ether(dst="01:80:c2:00:00:02", type=0x8809) / SlowProtocol() / lacp)
    found = lacpdu_from(frame)
    assert found == Lacpdu(
        PortParams(1, bytes.fromhex("020000000009"), 2, 3, 4, 5),
        PortParams(6, bytes.fromhex("020000000008"), 7, 8, 9, 10),
        11,
    )
    assert lacpdu_from(lacpdu_frame(ME, found)) == found


def test_scapy_reads_a_marker_and_its_response() -> None:
    for kind in (MARKER_INFORMATION, MARKER_RESPONSE):
        frame = marker_frame(ME, MARKER._replace(kind=kind))
        assert len(frame) == 124
        marker = Ether(frame)[SlowProtocol][MarkerProtocol]
        assert (marker.marker_type, marker.requester_port) == (kind, 7)
        assert marker.requester_system == "02:00:00:00:00:02"
        assert marker.requester_transaction_id == 0x01020304
        assert marker_from(frame) == MARKER._replace(kind=kind)
        assert lacpdu_from(frame) is None
    assert marker_from(lacpdu_frame(ME, PDU)) is None


@pytest.mark.parametrize("where", [5, 12, 14, 16, 17, 36, 37, 56, 57])
def test_a_pdu_with_a_wrong_byte_in_its_frame_is_none(where: int) -> None:
    frame = bytearray(lacpdu_frame(ME, PDU))
    frame[where] ^= 0x40
    assert lacpdu_from(bytes(frame)) is None


def test_linux_looks_at_length_and_subtype_only() -> None:
    frame = bytearray(lacpdu_frame(ME, PDU))
    frame[16] = 0x7F
    assert lacpdu_from(bytes(frame), strict=False) == PDU
    assert lacpdu_from(bytes(frame[:123]), strict=False) is None


def test_states_have_the_names_that_ip_prints() -> None:
    assert state_names(79) == "active,short_timeout,aggregating,in_sync,defaulted"
    assert state_names(0) == ""


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_has_no_complaint(tmp_path: Path) -> None:
    path = tmp_path / "slow.pcap"
    response = MARKER._replace(kind=MARKER_RESPONSE)
    frames = [lacpdu_frame(ME, PDU), marker_frame(ME, MARKER), marker_frame(ME, response)]
    wrpcap(str(path), [Ether(frame) for frame in frames])
    text = subprocess.run(
        ["tshark", "-r", str(path), "-V"], check=True, capture_output=True, text=True
    ).stdout
    assert "Malformed" not in text
    assert "Expert Info" not in text
    assert "Partner Key: 1" in text
