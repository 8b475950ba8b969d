"""What ethtool prints of a port, by release; see ``programs.ethtool``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import ethtool as ops
from nodes.cpu.kernel.net.netdevice import NetDevice

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_NA = "n/a"


# ---------------------------------------------------------------- plain, -i


def settings(cpu: Cpu, dev: NetDevice) -> str:
    """``ethtool DEV``."""
    text = f"Settings for {dev.name}:\n"
    lines = _bond(cpu, dev) if dev.adapter is None else _port(cpu, dev)
    if dev is cpu.net.loopback_dev:
        lines = ["Link detected: yes"]  # always_on; it has no other settings
    return text + "".join(
        f"\t{line}\n" if not line.startswith(" ") else f"{line}\n" for line in lines
    )


def _port(cpu: Cpu, dev: NetDevice) -> list[str]:
    adapter = dev.adapter
    assert adapter is not None
    release = cpu.params.ethtool_text
    up = dev.carrier and not adapter.down
    rate = f"{adapter.service.link_speed}Mb/s" if up else "Unknown!"
    duplex = "Full" if up else "Unknown! (255)"
    link = f"Link detected: {'yes' if up else 'no'}"
    if release == "6":
        return [
            "Supported ports: [ FIBRE ]", "Supported link modes:   ",
            "Supports auto-negotiation: No", "Advertised link modes:  Not reported",
            "Advertised auto-negotiation: No", f"Speed: {rate.replace('!', '! (65535)')}",
            f"Duplex: {duplex}", "Port: FIBRE", "PHYAD: 0", "Transceiver: external",
            "Auto-negotiation: off", "Supports Wake-on: d", "Wake-on: d",
            "Current message level: 0x00000007 (7)", link,
        ]  # fmt: skip
    port = ops.port(adapter)
    if release == "3.8":
        return [
            "Supported ports: [ FIBRE ]", "Supported link modes:   10000baseT/Full ",
            "Supported pause frame use: No", "Supports auto-negotiation: No",
            "Advertised link modes:  10000baseT/Full ", "Advertised pause frame use: No",
            "Advertised auto-negotiation: No", f"Speed: {rate}", f"Duplex: {duplex}",
            f"Port: {port}", "PHYAD: 0", "Transceiver: external", "Auto-negotiation: off",
            "Supports Wake-on: d", "Wake-on: d", "Current message level: 0x00000007 (7)",
            "\t\t       drv probe link", link,
        ]  # fmt: skip
    return [
        "Supported ports: [ FIBRE ]", "Supported link modes:   10000baseT/Full",
        "Supported pause frame use: Symmetric", "Supports auto-negotiation: No",
        "Supported FEC modes: Not reported", "Advertised link modes:  10000baseT/Full",
        "Advertised pause frame use: Symmetric", "Advertised auto-negotiation: No",
        "Advertised FEC modes: Not reported", f"Speed: {rate}", f"Duplex: {duplex}",
        "Auto-negotiation: off", f"Port: {port}", "PHYAD: 0", "Transceiver: internal",
        "Supports Wake-on: d", "Wake-on: d", "        Current message level: 0x00000007 (7)",
        "                               drv probe link", link,
    ]  # fmt: skip


def _bond(cpu: Cpu, dev: NetDevice) -> list[str]:
    """A bond has the speed of its active slave (bond_ethtool_get_link_ksettings); in kernels before
    that it could not be asked."""
    bond = cpu.net.bonds.get(dev.name)
    link = f"Link detected: {'yes' if dev.carrier else 'no'}"
    if cpu.params.ethtool_text == "6":
        return [link]
    speed = 0
    for slave in bond.slaves if bond is not None else []:
        if slave.dev.carrier and slave.dev.adapter is not None:
            speed = max(speed, slave.dev.adapter.service.link_speed)
    rate = f"{speed}Mb/s" if speed else "Unknown!"
    duplex = "Full" if speed else "Unknown! (255)"
    if cpu.params.ethtool_text == "3.8":
        return [
            "Supported ports: [ ]", "Supported link modes:   Not reported",
            "Supported pause frame use: No", "Supports auto-negotiation: No",
            "Advertised link modes:  Not reported", "Advertised pause frame use: No",
            "Advertised auto-negotiation: No", f"Speed: {rate}", f"Duplex: {duplex}",
            "Port: Other", "PHYAD: 0", "Transceiver: internal", "Auto-negotiation: off", link,
        ]  # fmt: skip
    return [
        "Supported ports: [  ]", "Supported link modes:   Not reported",
        "Supported pause frame use: No", "Supports auto-negotiation: No",
        "Supported FEC modes: Not reported", "Advertised link modes:  Not reported",
        "Advertised pause frame use: No", "Advertised auto-negotiation: No",
        "Advertised FEC modes: Not reported", f"Speed: {rate}", f"Duplex: {duplex}",
        "Auto-negotiation: off", "Port: Other", "PHYAD: 0", "Transceiver: internal", link,
    ]  # fmt: skip


def drvinfo(cpu: Cpu, dev: NetDevice) -> str:
    """``ethtool -i DEV``."""
    release, adapter = cpu.params.ethtool_text, dev.adapter
    if adapter is None:
        version = cpu.params.bonding_version.split()[0].lstrip("v")
        rows = [("driver", "bonding"), ("version", version), ("firmware-version", "2")]
    else:
        rows = [
            ("driver", "ixgbe"),
            ("version", cpu.params.ixgbe_version),
            ("firmware-version", adapter.hw.firmware),
        ]
    if release == "6.1":
        rows.append(("expansion-rom-version", ""))
    rows.append(("bus-info", "" if adapter is None else cpu.machine.nics[adapter.nic].pci_name))
    if release != "6":
        can = "no" if adapter is None else "yes"
        for what in ("statistics", "test", "eeprom-access", "register-dump"):
            rows.append((f"supports-{what}", can))
        rows.append(("supports-priv-flags", can if release == "6.1" else "no"))
    return "".join(f"{name}: {value}\n" for name, value in rows)


# ---------------------------------------------------------------- -g, -c, -l, -x


def ring(name: str, values: tuple[int, int, int], *, netlink: bool) -> str:
    """``ethtool -g DEV``."""
    largest, rx, tx = values
    other = _NA if netlink else "0"
    text = f"Ring parameters for {name}:\nPre-set maximums:\n"
    text += f"RX:\t\t{largest}\nRX Mini:\t{other}\nRX Jumbo:\t{other}\nTX:\t\t{largest}\n"
    text += "Current hardware settings:\n"
    text += f"RX:\t\t{rx}\nRX Mini:\t{other}\nRX Jumbo:\t{other}\nTX:\t\t{tx}\n"
    if netlink:
        return text + "RX Buf Len:\t\tn/a\nCQE Size:\t\tn/a\nTX Push:\toff\nTCP data split:\tn/a\n"
    return text + "\n"


def coalesce(name: str, rx_usecs: int, *, netlink: bool) -> str:
    """``ethtool -c DEV``: of all of it, this driver has the two intervals."""
    other, off = (_NA, _NA) if netlink else ("0", "off")
    text = f"Coalesce parameters for {name}:\nAdaptive RX: {off}  TX: {off}\n"
    for row in ("stats-block-usecs", "sample-interval", "pkt-rate-low", "pkt-rate-high"):
        text += f"{row}: {other}\n"
    for way, value in (("rx", rx_usecs), ("tx", 0)):
        text += f"\n{way}-usecs: {value}\n"
        text += "".join(
            f"{way}-{what}: {other}\n" for what in ("frames", "usecs-irq", "frames-irq")
        )
    for level in ("low", "high"):
        text += "\n"
        for way in ("rx", "tx"):
            text += f"{way}-usecs-{level}: {other}\n{way}-frame-{level}: {other}\n"
    return text + (f"\nCQE mode RX: {_NA}  TX: {_NA}\n\n" if netlink else "\n")


def channels(name: str, combined: int, *, netlink: bool) -> str:
    """``ethtool -l DEV``."""
    other = _NA if netlink else "0"
    text = f"Channel parameters for {name}:\n"
    for title, count in (
        ("Pre-set maximums", ops.MAX_FDIR_INDICES),
        ("Current hardware settings", combined),
    ):
        text += f"{title}:\nRX:\t\t{other}\nTX:\t\t{other}\n"
        text += f"Other:\t\t{ops.NON_Q_VECTORS}\nCombined:\t{count}\n"
    return text if netlink else text + "\n"


def rxfh(name: str, rings: int, table: list[int], key: bytes) -> str:
    """``ethtool -x DEV``."""
    text = f"RX flow hash indirection table for {name} with {rings} RX ring(s):\n"
    for at in range(0, len(table), 8):
        text += f"{at:5}: " + "".join(f" {entry:5}" for entry in table[at : at + 8]) + "\n"
    text += f"RSS hash key:\n{key.hex(':')}\nRSS hash function:\n"
    return text + "    toeplitz: on\n    xor: off\n    crc32: off\n"


# ---------------------------------------------------------------- -k


#: Features of a port of this driver in 6.1; ``=`` is [fixed].
_PORT_61 = """
rx-checksumming on
tx-checksumming on
>tx-checksum-ipv4 off=
>tx-checksum-ip-generic on
>tx-checksum-ipv6 off=
>tx-checksum-fcoe-crc on=
>tx-checksum-sctp on
scatter-gather on
>tx-scatter-gather on
>tx-scatter-gather-fraglist off=
tcp-segmentation-offload on
>tx-tcp-segmentation on
>tx-tcp-ecn-segmentation off=
>tx-tcp-mangleid-segmentation off
>tx-tcp6-segmentation on
generic-segmentation-offload on
generic-receive-offload on
large-receive-offload off
rx-vlan-offload on
tx-vlan-offload on
ntuple-filters off
receive-hashing on
highdma on=
rx-vlan-filter on
vlan-challenged off=
tx-lockless off=
netns-local off=
tx-gso-robust off=
tx-fcoe-segmentation on=
tx-gre-segmentation on
tx-gre-csum-segmentation on
tx-ipxip4-segmentation on
tx-ipxip6-segmentation on
tx-udp_tnl-segmentation on
tx-udp_tnl-csum-segmentation on
tx-gso-partial on
tx-tunnel-remcsum-segmentation off=
tx-sctp-segmentation off=
tx-esp-segmentation off=
tx-udp-segmentation on
tx-gso-list off=
fcoe-mtu off=
tx-nocache-copy off
loopback off=
rx-fcs off=
rx-all off
tx-vlan-stag-hw-insert off=
rx-vlan-stag-hw-parse off=
rx-vlan-stag-filter off=
l2-fwd-offload off
hw-tc-offload off
esp-hw-offload off=
esp-tx-csum-hw-offload off=
rx-udp_tunnel-port-offload off=
tls-hw-tx-offload off=
tls-hw-rx-offload off=
rx-gro-hw off=
tls-hw-record off=
rx-gro-list off
macsec-hw-offload off=
rx-udp-gro-forwarding off
hsr-tag-ins-offload off=
hsr-tag-rm-offload off=
hsr-fwd-offload off=
hsr-dup-offload off="""
_PORT_38 = """
rx-checksumming on
tx-checksumming on
>tx-checksum-ipv4 on
>tx-checksum-ip-generic off=
>tx-checksum-ipv6 on
>tx-checksum-fcoe-crc on=
>tx-checksum-sctp on
scatter-gather on
>tx-scatter-gather on
>tx-scatter-gather-fraglist off=
tcp-segmentation-offload on
>tx-tcp-segmentation on
>tx-tcp-ecn-segmentation off=
>tx-tcp6-segmentation on
udp-fragmentation-offload off=
generic-segmentation-offload on
generic-receive-offload on
large-receive-offload off
rx-vlan-offload on
tx-vlan-offload on
ntuple-filters off
receive-hashing on
highdma on=
rx-vlan-filter on
vlan-challenged off=
tx-lockless off=
netns-local off=
tx-gso-robust off=
tx-fcoe-segmentation on=
tx-gre-segmentation off=
tx-udp_tnl-segmentation off=
fcoe-mtu off=
tx-nocache-copy on
loopback off=
rx-fcs off=
rx-all off
tx-vlan-stag-hw-insert off=
rx-vlan-stag-hw-parse off=
rx-vlan-stag-filter off="""
_PORT_6 = """
rx-checksumming on
tx-checksumming on
scatter-gather on
tcp segmentation offload on
udp fragmentation offload off
generic segmentation offload off
generic-receive-offload on"""
#: By release: the first line, and the table.
_FEATURES = {
    "6": ("Offload parameters for {}:", _PORT_6),
    "3.8": ("Features for {}:", _PORT_38),
    "6.1": ("Features for {}:", _PORT_61),
}


def features(cpu: Cpu, dev: NetDevice) -> str:
    """``ethtool -k DEV``: what the hardware offers and the driver has on."""
    title, table = _FEATURES[cpu.params.ethtool_text]
    lines = [title.format(dev.name)]
    for row in table.strip().splitlines():
        name, _, value = row.rpartition(" ")
        indent = "\t" if name.startswith(">") else ""
        fixed = " [fixed]" if value.endswith("=") else ""
        lines.append(f"{indent}{name.lstrip('>')}: {value.rstrip('=')}{fixed}")
    return "\n".join(lines) + "\n"
