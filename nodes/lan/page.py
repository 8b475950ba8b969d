"""The page of counters of the LAN: a switch, and a gateway behind its last port.

Fields by port have ``PORTS`` entries of three words, [other, request, reply] (``nodes.ledger``);
entry n is the port of NIC n, entry ``GATEWAY_PORT`` the gateway's. A frame that enters leaves in
one or more copies, waits in a cable or ends by name; after each turn, over all ports, each class::

    frames_in + flood_copies + fault_dup + slow_sent
        = frames_out + fault_held + slow_taken + all IN_DROPS
    frames_out[gateway] = gw_answered + all gw_drop_*
    frames_in[gateway]  = gw_generated
"""

from __future__ import annotations

from bus.faults import ROW_WORDS, ROWS
from bus.ram import Field, Schema

NICS_MAX = 8
GATEWAY_PORT = NICS_MAX
PORTS = NICS_MAX + 1
#: Port-channels have logical port numbers PORTS, PORTS + 1, ...
CHANNELS_MAX = 4
MAC_ROWS = 64
GUEST_WORDS = 64
#: A row's first word: address, port + 1, VLAN.
ROW_PORT_SHIFT, ROW_VLAN_SHIFT = 48, 52

#: Why the switch took a frame and sent it nowhere; counted at the port it came from. What a fault
#: of a cable did (fault_*) and ``out_drop_no_link`` are counted at that cable's port.
IN_DROPS = (
    "in_drop_cable_out", "in_drop_no_light", "in_drop_undersize", "in_drop_source",
    "in_drop_reserved", "in_drop_same_port", "in_drop_no_port", "in_drop_port_down",
    "in_drop_vlan", "in_drop_not_collecting", "out_drop_no_link", "fault_loss", "fault_silent",
    "fault_one_way", "fault_full", "fault_fcs",
)  # fmt: skip
_IN_DOC = {
    "in_drop_cable_out": "the cable it came by is out",
    "in_drop_no_light": "the sender's laser is off",
    "in_drop_undersize": "shorter than 60 bytes without FCS",
    "in_drop_source": "multicast source address",
    "in_drop_reserved": "01:80:C2:00:00:0x, which bridges do not forward",
    "in_drop_same_port": "the destination is behind the port it came from",
    "in_drop_no_port": "to flood, but no other port has a link",
    "in_drop_port_down": "the port is shut (fault down)",
    "in_drop_vlan": "its VLAN is not one of the port's",
    "in_drop_not_collecting": "came by a member of a port-channel that takes no data",
    "out_drop_no_link": "waited in a cable and the link went, or no member distributes",
    "fault_loss": "lost by fault loss",
    "fault_silent": "lost by fault silent",
    "fault_one_way": "lost by fault one-way",
    "fault_full": "1000 frames waited in the cable (fault delay, rate)",
    "fault_fcs": "arrived with a wrong FCS (fault corrupt)",
}
#: Where a frame ends at the gateway.
GW_DROPS = (
    "gw_drop_not_mine", "gw_drop_protocol", "gw_drop_arp", "gw_drop_address", "gw_drop_checksum",
    "gw_drop_fragment", "gw_drop_icmp", "gw_drop_port", "gw_fragment",
)  # fmt: skip
_GW_DOC = {
    "gw_drop_not_mine": "destination MAC is another host's, or a VLAN it has no address in",
    "gw_drop_protocol": "neither ARP nor ICMP nor UDP over IPv4 without options",
    "gw_drop_arp": "ARP that does not concern its addresses",
    "gw_drop_address": "destination IP is not one of its own (it does not forward)",
    "gw_drop_checksum": "IP, ICMP or UDP checksum or length is wrong",
    "gw_fragment": "a fragment: it waits for the others, or its datagram was answered",
    "gw_drop_fragment": "a fragment; it does not reassemble",
    "gw_drop_icmp": "ICMP that nobody waits for",
    "gw_drop_port": "UDP to a port nobody listens at",
}

LAN_SCHEMA = Schema(
    (
        # ports
        Field("ports", "NIC ports of this switch"),
        Field("guests", "ports of machines that joined: text, \"2:m2 3:m3\"", GUEST_WORDS),
        Field("cable", "1 cable in, by port", PORTS),
        Field("light", "1 light from the other end, by port", PORTS),
        Field("link", "1 port up, by port", PORTS),
        Field("link_changes", "by port", PORTS),
        Field("channel", "logical number of a member's port-channel, 0 none, by port", PORTS),
        Field("collecting", "1 a member that takes data, by port", PORTS),
        Field("distributing", "1 a member that sends data, by port", PORTS),
        Field("faults", "faults of a port and its cable, by port: bus/faults.py has the words",
              PORTS * ROWS * ROW_WORDS),
        # ledger
        Field("frames_in", "taken", 3 * PORTS),
        Field("frames_out", "handed over", 3 * PORTS),
        Field("flood_copies", "further copies for further ports", 3),
        Field("fault_dup", "further copies by fault dup, by port", 3 * PORTS),
        Field("fault_held", "frames that wait in a cable (fault delay, rate, ...), by port",
              3 * PORTS),
        Field("slow_taken", "LACPDUs that ended at the switch's own LACP, by port", 3 * PORTS),
        Field("slow_sent", "LACPDUs of the switch itself, by port", 3 * PORTS),
        *(Field(name, _IN_DOC[name], 3 * PORTS) for name in IN_DROPS),
        Field("lost_dead", "handed over, but the NIC was dead, by port", 3 * PORTS),
        Field("lost_full", "handed over, but the NIC took nothing, by port", 3 * PORTS),
        Field("gw_answered", "ended at the gateway as it should", 3),
        Field("gw_generated", "made by the gateway", 3),
        *(Field(name, _GW_DOC[name], 3) for name in GW_DROPS),
        # gateway
        Field("gw_errors", "ICMP errors that it sent"),
        Field("gw_udp_echoed", "UDP datagrams sent back by port 7"),
        Field("gw_udp_discarded", "UDP datagrams taken by port 9"),
        Field("gw_neighbours", "addresses in its neighbour table"),
        Field("gw_neighbour_moved", "neighbours whose MAC address changed"),
        Field("gw_pings", "pings that it runs"),
        # switch
        Field("flooded", "frames sent to all ports: broadcast, multicast, unknown"),
        Field("learned", "addresses learned"),
        Field("moved", "addresses seen at another port than before"),
        Field("aged", "addresses forgotten for their age"),
        Field("flushed", "addresses forgotten because their port went down"),
        Field("table_full", "addresses not learned: table full"),
        Field("mac_entries", "addresses in the table"),
        Field("ageing_s", "age at which addresses are forgotten"),
        Field("macs", "rows of address | (port + 1) << 48 | VLAN << 52 (0: free), "
                      "clock of the last frame", 2 * MAC_ROWS),
        Field("unexpected", "messages that mean nothing to a switch"),
    )
)  # fmt: skip
