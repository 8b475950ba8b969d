"""Which tap shows a frame, and by what rule: the reasoning behind the captures, as a table.

One row for each way a frame takes and each place where one may listen. ``times`` is how often the
rule says that the tap shows it; ``taps`` compares that with what was captured. The
functions are Linux's; the three rules are those of ``packet_tap`` (2.6.18 to RHEL 5.2; RHEL 5.3
and 2.6.28 to 2.6.38; 2.6.39 and later).
"""

from __future__ import annotations

from typing import NamedTuple

#: A tap on the bond, on the NIC the frame went through, on another NIC, on all.
BOND, HERE, ELSEWHERE, ANY = "bond", "here", "elsewhere", "any"
OUT, ACTIVE, INACTIVE, ALONE = "out", "in, active", "in, inactive", "in, no slave"


class Reason(NamedTuple):
    """How often the tap shows the frame, and why."""

    times: int
    text: str


_OUT = {
    BOND: Reason(
        1,
        "dev_hard_start_xmit({bond}): dev_queue_xmit_nit gives a copy to every ETH_P_ALL entry of "
        "{bond}",
    ),
    HERE: Reason(
        1,
        "bond_start_xmit chose {nic}: a second dev_hard_start_xmit, now with skb->dev = {nic}",
    ),
    ELSEWHERE: Reason(
        0, "dev_hard_start_xmit never ran with skb->dev = {tap}: bonding did not choose it"
    ),
    ANY: Reason(2, "an entry without a device matches in both passes of dev_hard_start_xmit"),
}
_NOT_THERE = Reason(0, "it did not come in by {tap}")

RULES: dict[str, dict[str, dict[str, Reason]]] = {
    "skb_bond": {
        ACTIVE: {
            BOND: Reason(
                1,
                "netif_receive_skb: skb_bond() has made skb->dev {bond} before it walks ptype_all",
            ),
            HERE: Reason(
                0,
                "ptype->dev is compared with skb->dev, and that is {bond} already; where it came "
                "from is forgotten",
            ),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(1, "ptype_all is walked once, with skb->dev = {bond}"),
        },
        INACTIVE: {
            BOND: Reason(0, "skb_bond_should_drop: a frame of an inactive slave is not {bond}'s"),
            HERE: Reason(
                0,
                "skb_bond_should_drop: {nic} is inactive; skb_bond() frees the frame before "
                "ptype_all is walked, and before it is counted",
            ),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(0, "freed before ptype_all is walked"),
        },
    },
    "orig_dev": {
        ACTIVE: {
            BOND: Reason(1, "skb->dev = {bond}, its master, before ptype_all is walked"),
            HERE: Reason(
                1,
                "ptype->dev == orig_dev matches too; the packet says {bond} all the same "
                "(sll_ifindex)",
            ),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(1, "null_or_orig is NULL, as the entry's device is; one walk"),
        },
        INACTIVE: {
            BOND: Reason(0, "skb_bond_should_drop: skb->dev stays {nic}"),
            HERE: Reason(
                1, "null_or_orig = {nic}: only an entry bound to that very device matches"
            ),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(
                0, "null_or_orig is {nic}, not NULL: an entry without a device gets nothing"
            ),
        },
    },
    "rx_handler": {
        ACTIVE: {
            BOND: Reason(
                1,
                "bond_handle_frame sets skb->dev = {bond}, RX_HANDLER_ANOTHER: ptype_all is walked "
                "again",
            ),
            HERE: Reason(
                1,
                "__netif_receive_skb_core walks ptype_all with skb->dev = {nic} before it asks "
                "the rx_handler",
            ),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(2, "an entry without a device matches in both rounds"),
        },
        INACTIVE: {
            BOND: Reason(
                0,
                "bond_should_deliver_exact_match: {nic} is inactive, RX_HANDLER_EXACT, no second "
                "round; nobody wants it, {counter} of {nic} + 1",
            ),
            HERE: Reason(1, "ptype_all is walked before the rx_handler is asked"),
            ELSEWHERE: _NOT_THERE,
            ANY: Reason(1, "matches in the one round there is"),
        },
    },
}
_NO_SLAVE = {
    BOND: Reason(0, "{nic} is no slave of {bond}"),
    HERE: Reason(1, "ptype_all is walked with skb->dev = {nic}; it has no master"),
    ELSEWHERE: _NOT_THERE,
    ANY: Reason(1, "ptype_all is walked once"),
}
_OUT_ALONE = {
    BOND: Reason(0, "it was not sent through {bond}: no pass with skb->dev = {bond}"),
    HERE: Reason(1, "dev_hard_start_xmit({nic}): dev_queue_xmit_nit gives it to the taps"),
    ELSEWHERE: Reason(0, "dev_hard_start_xmit never ran with skb->dev = {tap}"),
    ANY: Reason(1, "an entry without a device matches"),
}


def reason(rule: str, way: str, place: str, bonded: bool, by_bond: bool = True) -> Reason:
    """The row; ``by_bond``: the frame went through the bond and was not sent on a slave itself."""
    if way == OUT:
        return (_OUT if bonded and by_bond else _OUT_ALONE)[place]
    return _NO_SLAVE[place] if way == ALONE else RULES[rule][way][place]
