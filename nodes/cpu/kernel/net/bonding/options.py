"""Bonding's options as one table: values, ranges, defaults, and where they may be set.

The rows are ``bond_opts`` of 6.1 (bond_options.c), with the words of its value tables. Module
options, sysfs and the machine's file are checked against it. Up to 3.10 each option checks itself;
what differs then is in ``oldoptions``. Which options an era has is ``Params.absent_files``, and
which of their words ``Params.absent_values``.
"""

from __future__ import annotations

from typing import NamedTuple

INT_MAX = 2**31 - 1
_DIGITS_MAX = 20  # of a long
ARP_TARGETS_MAX = 16

#: By number.
MODE_NAMES = (
    "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
    "balance-alb",
)  # fmt: skip
_PRIMARY = ("active-backup", "balance-tlb", "balance-alb")
_ARP = ("balance-rr", "active-backup", "balance-xor", "broadcast")
_LB = ("balance-tlb", "balance-alb")
_AD = ("802.3ad",)
MIIMON_DEFAULT = 100  # BOND_DEFAULT_MIIMON, of the modes that need it


class Option(NamedTuple):
    """A row. ``words``: the values' names, in the order of their numbers; else a number from
    ``low`` to ``high``."""

    name: str
    default: str | int
    about: str
    words: tuple[str, ...] = ()
    low: int = 0
    high: int = INT_MAX
    modes: tuple[str, ...] = ()  # in which it may be set; empty: in all
    down: bool = False  # BOND_OPTFLAG_IFDOWN
    no_slaves: bool = False  # BOND_OPTFLAG_NOSLAVES
    raw: bool = False  # BOND_OPTFLAG_RAWVAL: the setter reads the text
    shown: str = ""  # what it is called in the log, if that is not its name


_ROWS = (
    Option("mode", "balance-rr", "policy of the bond", MODE_NAMES, down=True, no_slaves=True),
    Option("miimon", 0, "ms between looks at the carrier; 0 off"),
    Option("updelay", 0, "ms a returned link waits, see miimon", shown="up delay"),
    Option("downdelay", 0, "ms a lost link is still trusted", shown="down delay"),
    Option("peer_notif_delay", 0, "ms between two announcements of a failover", high=300_000,
           shown="peer notification delay"),
    Option("use_carrier", 1, "1 netif_carrier_ok, 0 MII or ethtool", ("off", "on")),
    Option("primary", "", "slave that is preferred whenever it is up", modes=_PRIMARY, raw=True),
    Option("primary_reselect", "always", "when the primary takes over again",
           ("always", "better", "failure")),
    Option("active_slave", "", "the slave that is in use", modes=_PRIMARY, raw=True),
    Option("slaves", "", "the slaves", raw=True),
    Option("queue_id", "", "the slaves' queues", raw=True),
    Option("arp_interval", 0, "ms between ARP probes; 0 off", modes=_ARP),
    Option("arp_ip_target", "", "IPv4 addresses that are probed, at most 16", raw=True),
    Option("arp_validate", "none", "whose ARP answers are checked",
           ("none", "active", "backup", "all", "filter", "filter_active", "filter_backup"),
           modes=_ARP),
    Option("arp_all_targets", "any", "must one target answer, or all?", ("any", "all")),
    Option("arp_missed_max", 2, "missed probes until a slave is down", low=1, high=255, modes=_ARP),
    Option("fail_over_mac", "none", "whose address the bond has after a failover",
           ("none", "active", "follow"), no_slaves=True),
    Option("num_grat_arp", 1, "gratuitous ARPs after a failover", high=255),
    Option("num_unsol_na", 1, "the same option by its IPv6 name", high=255),
    Option("resend_igmp", 1, "IGMP reports after a failover", high=255),
    Option("all_slaves_active", 0, "1: frames of inactive slaves are taken", ("off", "on")),
    Option("min_links", 0, "links that 802.3ad's bond needs for its carrier"),
    Option("packets_per_slave", 1, "packets until the next slave; 0 random", high=65535,
           modes=("balance-rr",)),
    Option("xmit_hash_policy", "layer2", "what of a frame chooses the slave",
           ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")),
    Option("lacp_rate", "slow", "how often the partner is to send", ("slow", "fast"), modes=_AD,
           down=True),
    Option("lacp_active", "on", "speak LACP unasked?", ("off", "on"), modes=_AD, down=True),
    Option("ad_select", "stable", "which aggregator is used", ("stable", "bandwidth", "count"),
           down=True),
    Option("ad_actor_sys_prio", 65535, "system priority of LACP", low=1, high=65535, modes=_AD),
    Option("ad_user_port_key", 0, "upper bits of the port key", high=1023, modes=_AD, down=True),
    Option("ad_actor_system", "00:00:00:00:00:00", "system address of LACP", modes=_AD, raw=True),
    Option("lp_interval", 1, "s between learning packets", low=1),
    Option("tlb_dynamic_lb", 1, "1: tlb moves flows by load", ("off", "on"), modes=_LB, down=True),
)  # fmt: skip

OPTIONS: dict[str, Option] = {row.name: row for row in _ROWS}

#: Values are stored as numbers although they have words.
BOOLEANS = ("use_carrier", "all_slaves_active", "tlb_dynamic_lb")


def parse(option: Option, text: str, absent: tuple[str, ...] = ()) -> str | int | None:
    """bond_opt_parse: a number, or a word of the table; what settings store, None if it is none
    or is not known yet (``absent``: NAME=WORD)."""
    found = _parse(option, text)
    return None if f"{option.name}={found}" in absent else found


def _parse(option: Option, text: str) -> str | int | None:
    word = text.strip()
    if word.isascii() and word and all(c.isdigit() or c.isspace() for c in text):
        digits = word.split()[0]
        if len(digits) > _DIGITS_MAX:
            return None
        number = int(digits)
        if option.words:
            if number >= len(option.words):
                return None
            return number if option.name in BOOLEANS else option.words[number]
        return number if option.low <= number <= option.high else None
    if word == "default":
        return option.default
    if option.words:
        if word not in option.words:
            return None
        return option.words.index(word) if option.name in BOOLEANS else word
    return 0 if word == "off" and not option.low else None


def value_text(option: Option, value: str | int) -> str:
    """As sysfs shows it, without the newline."""
    if option.words and option.name not in BOOLEANS:
        return f"{value} {option.words.index(str(value))}"
    return str(value)
