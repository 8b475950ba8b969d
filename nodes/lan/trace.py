"""Tracepoints of the LAN. ``a`` is the packet's key (``packet_key``), ``b`` ports."""

from __future__ import annotations

from bus.recorder import Tracepoint, table

TRACEPOINTS = table(
    Tracepoint(0, "in", "frame taken; b = port"),
    Tracepoint(1, "forward", "to one port; b = from << 16 | to"),
    Tracepoint(2, "flood", "to several ports; b = from << 16 | number of copies"),
    Tracepoint(3, "drop", "ended in the switch; context = index in IN_DROPS, b = port"),
    Tracepoint(4, "gateway", "taken by the gateway; b = 1 ARP, 2 echo, ... (gateway.py)"),
    Tracepoint(5, "gateway_drop", "ended at the gateway; context = index in GW_DROPS"),
    Tracepoint(6, "link", "port went up or down; a = 1 up, b = port", always=True),
    Tracepoint(7, "cable", "a hand at a cable; a = 1 in, 0 out, b = port", always=True),
    Tracepoint(8, "learn", "address learned or moved; a = address, b = port"),
    Tracepoint(9, "fault", "a fault began or ended; context = port, a = kind, b = 1 on",
               always=True),
)  # fmt: skip

IN = TRACEPOINTS["in"].number
FORWARD = TRACEPOINTS["forward"].number
FLOOD = TRACEPOINTS["flood"].number
DROP = TRACEPOINTS["drop"].number
GATEWAY = TRACEPOINTS["gateway"].number
GATEWAY_DROP = TRACEPOINTS["gateway_drop"].number
LINK = TRACEPOINTS["link"].number
CABLE = TRACEPOINTS["cable"].number
LEARN = TRACEPOINTS["learn"].number
FAULT = TRACEPOINTS["fault"].number
