"""The driver's conversation with its NIC: probe and open register by register, in the order of the
real driver's log; what fast_probe leaves out; the cage, the semaphores, resets."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from bus.messages import MemRead, MemWrite
from nodes.cpu.kernel.drivers.ixgbe import eeprom, phy
from nodes.nic.eeprom import make_image
from nodes.nic.registers import name_of
from nodes.nic.sfp import MODULES, identity
from tests.nodes.cpu.harness import ERAS, Box

Access = tuple[str, str, int]  # R or W, register, value written


class Listening:
    """A machine with one NIC, and every access of BAR0 that it sees."""

    def __init__(self, era: str = "6.1", *, fast: bool, boot: bool = True, **more: Any) -> None:
        self.box = Box(era, nics=1, boot=False, **more)
        node = self.box.machine.simulation.node("cpu0")
        node.cpu.machine = node.cpu.machine._replace(fast_probe=fast)
        self.heard: list[Access] = []
        self.box.machine.simulation.watch = self._hear
        if boot:
            self.box.boot()

    def _hear(self, _now: int, _sender: str, receiver: str, message: Any) -> None:
        if receiver == "eth0" and isinstance(message, MemRead | MemWrite) and message.bar == 0:
            value = message.value if isinstance(message, MemWrite) else 0
            kind = "W" if isinstance(message, MemWrite) else "R"
            self.heard.append((kind, name_of(message.offset), value))

    def names(self, kinds: str = "RW") -> list[str]:
        """Registers in the order they were touched, an array and a register in a row once."""
        found = (name.split("[")[0] for kind, name, _ in self.heard if kind in kinds)
        return [name for name, _ in groupby(found)]


def in_order(wanted: str, names: list[str]) -> None:
    """``wanted`` is a subsequence of ``names``."""
    rest = iter(names)
    missing = [name for name in wanted.split() if name not in rest]
    assert not missing, f"{missing[0]} does not come where it should"


# What the real driver's log shows, with the semaphores and EEPROM reads around each step left out.
PROBE = (
    "EEC FWSM SECTXSTAT SECRXSTAT RXPBSIZE EEC WUS RXCTRL EIMC EICR TXDCTL RXDCTL STATUS CTRL "
    "STATUS SWSM GSSR MSCA MSRWD FACTPS GSSR I2CCTL FWSM EERD GSSR CORECTL MMNGC AUTOC AUTOC2 "
    "AUTOC ANLP1 AUTOC LINKS CTRL STATUS CTRL AUTOC AUTOC2 RAH RAL MPSAR_LO MPSAR_HI RAL "
    "MCSTCTRL MTA PFUTA EERD FWSM EERD MPSAR_LO RAH RAL STATUS RAH EERD VFTA VLVF VLVFB CRCERRS "
    "MPC PRC64 GPTC QPRC QPTC CTRL_EXT PCS1GANA PCS1GLCTL EERD RTTDQSEL RTTBCNRC EERD ESDP MMNGC "
    "ESDP STATUS FWSTS HICR EERD"
)
OPEN = (
    "RXPBSIZE TXPBSIZE TXPBTHRESH RXPBSIZE FCTRL MTA MPSAR_LO RAH RAL STATUS RAH VMOLR FCTRL "
    "RXDCTL VLNCTRL VFTA SECRXCTRL SECRXSTAT SECRXCTRL DCA_TXCTRL DCA_RXCTRL ETQF ETQS RTTDCS "
    "MTQC RTTDCS DMATXCTL TXDCTL STATUS TDBAL TDBAH TDLEN TDH TDT TXDCTL RXCTRL PSRTYPE RDRXCTL "
    "RSCDBU RDRXCTL RFCTL RXCSUM RSSRK RETA MRQC MAXFRS HLREG0 RXDCTL STATUS RDBAL RDBAH RDLEN "
    "RDH RDT SRRCTL RXDCTL RDT RXCTRL SECRXCTRL SECRXSTAT RXCTRL SECRXCTRL CTRL_EXT EIAM_EX GPIE "
    "IVAR EITR IVAR_MISC EITR EIAC ESDP EICR EIMS EIMS_EX CTRL_EXT"
)
LINK_UP = "I2CCTL CORECTL AUTOC AUTOC2 AUTOC ANLP1 AUTOC ESDP LINKS MFLCN FCCFG FCRTL FCRTH FCTTV"


@pytest.mark.conformance("H17.4-1")
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_full_probe_touches_registers_in_the_order_of_the_real_drivers_log(cpus: int) -> None:
    """And no step of it fails: nothing is logged but what a healthy card says."""
    listening = Listening(fast=False, cpus=cpus)
    names = listening.names()
    assert "IPSTXIDX" not in names  # the fuses spare the IPsec tables
    in_order(f"{PROBE} {OPEN} {LINK_UP}", names)
    assert [line for line in listening.box.said() if "rror" in line or "ailed" in line] == []
    assert listening.box.ping("-c", "1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_fast_probe_writes_the_same_registers_in_the_same_order(era: str) -> None:
    """Less what only a read needs (EERD, I2CCTL, MSCA, semaphores) and the module's initialisation;
    and without thousands of reads."""
    sides = []
    for fast in (True, False):
        listening = Listening(era, fast=fast)
        sides.append(
            [
                (name, value)
                for kind, name, value in listening.heard
                if kind == "W"
                and name
                not in ("EERD", "I2CCTL", "MSCA", "SWSM", "GSSR", "FWSTS", "CORECTL", "AUTOC")
                and not name.startswith(("EICS_EX", "EIMS", "EIMC", "EICR", "RDT", "TDT"))
            ]
        )
        reads = sum(kind == "R" for kind, _, _ in listening.heard)
        assert reads < 150 if fast else reads > 5000
    opened = ("CTRL_EXT", 0x1001_4000)  # the last write of ixgbe_up_complete
    fast_side, full_side = (side[: side.index(opened)] for side in sides)
    assert fast_side == full_side


def test_what_fast_probe_takes_as_known_is_what_a_full_probe_reads() -> None:
    image = make_image(bytes.fromhex("001b21000001"))
    assert {word: image.get(word, 0xFFFF) for word in eeprom.CACHED} == eeprom.CACHED
    module = identity(MODULES["da"], "")
    assert {offset: module[offset] for offset in phy.CACHED} == phy.CACHED


@pytest.mark.parametrize("era", ERAS)
def test_an_older_driver_resets_in_its_own_way(era: str) -> None:
    """2.6.18: no health checks, CTRL is read first, STATUS decides; AUTOC is written once. Later:
    the pipeline is reset. 6.1: GIO_DIS is seen before it goes on."""
    heard = Listening(era, fast=False).heard
    names = [name for _, name, _ in heard]
    at = next(n for n, access in enumerate(heard) if access[:2] == ("W", "CTRL"))
    before, after = heard[at - 1][:2], heard[at + 1][:2]
    assert (before == ("R", "CTRL")) == (era == "2.6.18")
    assert (after == ("R", "CTRL")) == (era == "6.1")
    assert heard[at][2] & 4
    assert ("SECTXSTAT" in names) == (era == "6.1")
    autoc = [value for kind, name, value in heard if (kind, name) == ("W", "AUTOC")][:3]
    assert autoc == ([0x7000, 0x7000] if era == "2.6.18" else [0x6000, 0xF000, 0x7000])[:3]


def test_the_eeprom_checksum_is_looked_at() -> None:
    listening = Listening(fast=False, boot=False)
    nic = listening.box.machine.simulation.node("eth0")
    nic.device.eeprom.image[0x2A] ^= 1
    listening.box.boot()
    assert "ixgbe 0000:01:00.0: The EEPROM Checksum Is Not Valid" in listening.box.said()
    assert "ixgbe 0000:01:00.0: probe failed with error -5" in listening.box.said()


def test_a_module_of_unknown_kind_is_refused_by_name() -> None:
    listening = Listening(fast=False, boot=False)
    nic = listening.box.machine.simulation.node("eth0")
    nic.device.cage.bus._chips[0xA0].image[0] = 0x0C
    listening.box.boot()
    said = " ".join(listening.box.said())
    assert "an unsupported SFP+ or QSFP module type was detected" in said
    assert "ixgbe 0000:01:00.0: probe failed with error -95" in listening.box.said()


@pytest.mark.parametrize(
    ("oui", "number"),
    [("001b21", 20), ("004076", 13), ("009065", 17), ("00176a", 16), ("123456", 14)],
)
def test_the_number_of_the_phy_is_that_of_the_modules_vendor(oui: str, number: int) -> None:
    """enum ixgbe_phy_type of 6.1; a passive cable of a vendor that nobody knows is 14."""
    listening = Listening(fast=False, boot=False)
    nic = listening.box.machine.simulation.node("eth0")
    nic.device.cage.bus._chips[0xA0].image[37:40] = bytes.fromhex(oui)
    listening.box.boot()
    assert f"ixgbe 0000:01:00.0: MAC: 2, PHY: {number}, SFP+: 3, PBA No: BH8259-001" in (
        listening.box.said()
    )


def test_an_empty_cage_is_no_error_and_a_module_is_found_later() -> None:
    listening = Listening(fast=False, boot=False, bonded=False)
    box = listening.box
    cage = box.machine.simulation.node("eth0").device.cage
    cage.fill(None)
    box.boot()
    assert "ixgbe 0000:01:00.0: MAC: 2, PHY: 0, PBA No: BH8259-001" in box.said()
    assert not any("Link is Up" in line for line in box.said())
    cage.fill("sr")
    box.live(4000)
    assert "ixgbe 0000:01:00.0 eth0: detected SFP+: 5" in box.said()
    assert "ixgbe 0000:01:00.0 eth0: NIC Link is Up 10 Gbps, Flow Control: RX/TX" in box.said()


def test_a_module_of_unknown_kind_that_comes_later_costs_the_netdev() -> None:
    """Once: who wants it back reloads the driver."""
    listening = Listening(fast=False, boot=False)
    box = listening.box
    cage = box.machine.simulation.node("eth0").device.cage
    cage.fill(None)
    box.boot()
    cage.fill("sr")
    cage.bus._chips[0xA0].image[0] = 0x0C
    box.live(7000)
    said = [line for line in box.said() if "unsupported SFP+ module" in line]
    assert said == [
        "ixgbe 0000:01:00.0 eth0: failed to initialize because an unsupported SFP+ module type was "
        "detected."
    ]
    assert "eth0" not in box.kernel()["netdevs"]
    assert "eth0" not in box.proc("/proc/interrupts")
    assert "eth0" not in box.proc("/proc/net/bonding/bond0")


def test_a_card_that_is_pulled_while_it_is_probed_leaves_no_netdev() -> None:
    box = Listening(fast=False, boot=False).box
    pulled: list[int] = []

    def pull(now: int, _sender: str, _receiver: str, _message: object) -> None:
        if not pulled and any("PBA No" in line for line in box.said()):
            pulled.append(now)
            box.machine.kill("eth0")

    box.machine.simulation.watch = pull
    box.boot()
    assert pulled
    assert "ixgbe 0000:01:00.0: probe failed with error -5" in box.said()
    assert "eth0" not in box.kernel()["netdevs"]


@pytest.mark.parametrize("era", ERAS)
def test_closing_a_port_stops_it_in_the_real_order(era: str) -> None:
    listening = Listening(era, fast=False, bonded=False)
    listening.heard.clear()
    assert listening.box.run("ip", "link", "set", "eth0", "down").code == 0
    in_order(
        "RXCTRL RXDCTL EIMC EIMC_EX TXDCTL LINKS TXDCTL DMATXCTL EIMC EICR TXDCTL RXDCTL CTRL "
        "CTRL RAH RAL MPSAR_LO MTA PFUTA VFTA CRCERRS CTRL_EXT RTTDQSEL LEDCTL RAH RAL ESDP "
        "CTRL_EXT",
        listening.names(),
    )
