"""The page of counters of the LAN: a switch, and a gateway behind its last port.

Fields by port have ``PORTS`` entries of three words, [other, request, reply] (``nodes.ledger``);
entry n is the port of NIC n, entry ``GATEWAY_PORT`` the gateway's. A frame that enters leaves in
one or more copies or ends by name; after each turn, over all ports and for each class::

    frames_in + flood_copies = frames_out + all in_drop_*
    frames_out[gateway] = gw_answered + all gw_drop_*
    frames_in[gateway]  = gw_generated
"""

from __future__ import annotations

from bus.ram import Field, Schema

NICS_MAX = 8
GATEWAY_PORT = NICS_MAX
PORTS = NICS_MAX + 1
MAC_ROWS = 64

#: Why the switch took a frame and sent it nowhere; counted at the port it came from.
IN_DROPS = (
    "in_drop_cable_out", "in_drop_no_light", "in_drop_undersize", "in_drop_source",
    "in_drop_reserved", "in_drop_same_port", "in_drop_no_port",
)  # fmt: skip
_IN_DOC = {
    "in_drop_cable_out": "the cable it came by is out",
    "in_drop_no_light": "the sender's laser is off",
    "in_drop_undersize": "shorter than 60 bytes without FCS",
    "in_drop_source": "multicast source address",
    "in_drop_reserved": "01:80:C2:00:00:0x, which bridges do not forward",
    "in_drop_same_port": "the destination is behind the port it came from",
    "in_drop_no_port": "to flood, but no other port has a link",
}
#: Where a frame ends at the gateway.
GW_DROPS = (
    "gw_drop_not_mine", "gw_drop_protocol", "gw_drop_arp", "gw_drop_address", "gw_drop_checksum",
    "gw_drop_fragment", "gw_drop_icmp",
)  # fmt: skip
_GW_DOC = {
    "gw_drop_not_mine": "destination MAC is another host's",
    "gw_drop_protocol": "neither ARP nor ICMP over IPv4 without options",
    "gw_drop_arp": "ARP, but not a request for one of its addresses",
    "gw_drop_address": "destination IP is not one of its own (it does not forward)",
    "gw_drop_checksum": "IP or ICMP checksum or length is wrong",
    "gw_drop_fragment": "a fragment; it does not reassemble",
    "gw_drop_icmp": "ICMP, but not an echo request",
}

LAN_SCHEMA = Schema(
    (
        # ports
        Field("ports", "NIC ports of this switch"),
        Field("cable", "1 cable in, by port", PORTS),
        Field("light", "1 light from the other end, by port", PORTS),
        Field("link", "1 port up, by port", PORTS),
        Field("link_changes", "by port", PORTS),
        # ledger
        Field("frames_in", "taken", 3 * PORTS),
        Field("frames_out", "handed over", 3 * PORTS),
        Field("flood_copies", "further copies for further ports", 3),
        *(Field(name, _IN_DOC[name], 3 * PORTS) for name in IN_DROPS),
        Field("lost_dead", "handed over, but the NIC was dead, by port", 3 * PORTS),
        Field("lost_full", "handed over, but the NIC took nothing, by port", 3 * PORTS),
        Field("gw_answered", "ended at the gateway as it should", 3),
        Field("gw_generated", "made by the gateway", 3),
        *(Field(name, _GW_DOC[name], 3) for name in GW_DROPS),
        # switch
        Field("flooded", "frames sent to all ports: broadcast, multicast, unknown"),
        Field("learned", "addresses learned"),
        Field("moved", "addresses seen at another port than before"),
        Field("aged", "addresses forgotten after 300 s"),
        Field("flushed", "addresses forgotten because their port went down"),
        Field("table_full", "addresses not learned: table full"),
        Field("mac_entries", "addresses in the table"),
        Field("macs", "rows of address | (port + 1) << 48 (0: free), clock of the last frame",
              2 * MAC_ROWS),
        Field("unexpected", "messages that mean nothing to a switch"),
    )
)  # fmt: skip
