"""Options of a bond in a machine's file: all of Linux's, and what Linux refuses of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.cpu.kernel.net.bonding.options import OPTIONS
from nodes.machine import BondSettings
from orchestrator import cli
from orchestrator.configuration import config, configtext
from orchestrator.configuration.configtables import Bond0
from orchestrator.errors import BottomhalfError
from orchestrator.machines.running import pack_settings, unpack_settings

REFUSED = "--bond: Linux refuses this bond: "


def settings(bond: str, era: str = "6.1") -> BondSettings:
    found = config.load(bond=bond, era=era).bond
    assert found is not None
    return found


def refusal(bond: str, era: str = "6.1") -> str:
    with pytest.raises(BottomhalfError) as caught:
        config.load(bond=bond, era=era)
    return caught.value.what.removeprefix(REFUSED)


def test_every_option_of_the_kernels_table_is_a_key():
    assert set(OPTIONS) - set(Bond0.model_fields) == {"active_slave", "queue_id"}
    for name, row in OPTIONS.items():
        if name in ("mode", "miimon", "arp_ip_target", "slaves", "active_slave", "queue_id"):
            continue
        assert Bond0.model_fields[name].get_default() == row.default


@pytest.mark.parametrize(
    ("bond", "values"),
    [
        ("fail_over_mac=1", {"fail_over_mac": "active"}),
        ("fail_over_mac=follow", {"fail_over_mac": "follow"}),
        ("primary=eth1 primary_reselect=2",
         {"primary": "eth1", "primary_reselect": "failure"}),
        ("arp_interval=200 arp_ip_target=10.0.0.1,10.0.0.2 arp_validate=all",
         {"miimon": 0, "arp_interval": 200, "arp_ip_target": ("10.0.0.1", "10.0.0.2"),
          "arp_validate": "all"}),
        ("mode=balance-rr packets_per_slave=0", {"mode": "balance-rr", "packets_per_slave": 0}),
        ("mode=2 xmit_hash_policy=layer2+3",
         {"mode": "balance-xor", "xmit_hash_policy": "layer2+3"}),
        ("num_unsol_na=5", {"num_grat_arp": 5}),
        ("mode=broadcast,miimon=50", {"mode": "broadcast", "miimon": 50}),
        ("peer_notif_delay=300 num_grat_arp=2", {"peer_notif_delay": 300, "num_grat_arp": 2}),
    ],
)  # fmt: skip
def test_options_become_settings_and_survive_a_file_and_a_pickle(
    tmp_path: Path, bond: str, values: dict[str, object]
):
    machine = config.load(bond=bond)
    assert machine.bond is not None
    expected = BondSettings(slaves=("eth0", "eth1"))._replace(**values)  # type: ignore[arg-type]
    assert machine.bond == expected
    path = tmp_path / "bond-pair.toml"
    path.write_text(configtext.to_toml(machine))
    assert config.load(str(path)).bond == expected
    assert unpack_settings(pack_settings(machine)) == machine


@pytest.mark.parametrize(
    ("bond", "era", "why"),
    [
        ("miimon=100 arp_interval=100", "6.1",
         "ARP monitoring cannot be used with MII monitoring"),
        ("miimon=0 updelay=200", "6.1", "Unable to set up delay as MII monitoring is disabled"),
        ("miimon=0 downdelay=200", "3.10",
         "Unable to set down delay as MII monitoring is disabled"),
        ("miimon=0 peer_notif_delay=200", "6.1",
         "Unable to set peer notification delay as MII monitoring is disabled"),
        ("mode=balance-rr primary=eth0", "6.1",
         "option primary: mode dependency failed, not supported in mode balance-rr(0)"),
        ("packets_per_slave=3", "6.1",
         "option packets_per_slave: mode dependency failed, not supported in mode "
         "active-backup(1)"),
        ("lacp_rate=fast", "6.1",
         "option lacp_rate: mode dependency failed, not supported in mode active-backup(1)"),
        ("tlb_dynamic_lb=0", "6.1",
         "option tlb_dynamic_lb: mode dependency failed, not supported in mode active-backup(1)"),
        ("fail_over_mac=always", "6.1", "option fail_over_mac: invalid value (always)"),
        ("fail_over_mac=3", "6.1", "option fail_over_mac: invalid value (3)"),
        ("arp_interval=100 arp_ip_target=0.0.0.0", "6.1",
         "invalid ARP target 0.0.0.0 specified for addition"),
        ("arp_interval=100 arp_ip_target=10.0.0", "6.1",
         "invalid ARP target 10.0.0 specified for addition"),
        ("miimon=0 arp_validate=all", "6.1", "arp_validate requires arp_interval"),
        ("arp_validate=all miimon=100", "6.1", "ARP validating cannot be used with MII monitor"),
        ("mode=balance-rr arp_interval=100 arp_ip_target=10.0.0.1 arp_validate=all", "3.10",
         "option arp_validate: mode dependency failed, not supported in mode balance-rr(0)"),
        ("fail_over_mac=1", "2.6.18", "bonding: Unknown parameter `fail_over_mac'"),
        ("arp_validate=1", "2.6.18", "bonding: Unknown parameter `arp_validate'"),
        ("mode=2 xmit_hash_policy=encap3+4", "3.10",
         "option xmit_hash_policy: invalid value (encap3+4)"),
        ("mode=2 xmit_hash_policy=5", "2.6.18", "option xmit_hash_policy: invalid value (5)"),
        ("arp_interval=100 arp_ip_target=10.0.0.1 arp_validate=filter", "3.10",
         "option arp_validate: invalid value (filter)"),
        ("packets_per_slave=1", "3.10", "bonding: Unknown parameter `packets_per_slave'"),
    ],
)  # fmt: skip
def test_what_linux_refuses_is_refused_in_its_words(bond: str, era: str, why: str):
    assert refusal(bond, era) == why


def test_6_1_validates_in_modes_that_3_10_does_not():
    bond = "mode=balance-rr arp_interval=100 arp_ip_target=10.0.0.1 arp_validate=all"
    assert settings(bond).arp_validate == "all"


def test_up_and_check_say_it_too(tmp_path: Path):
    machine = tmp_path / "my.toml"
    machine.write_text('nics = ["eth0", "eth1"]\n[bond0]\nslaves = ["eth0"]\nlacp_rate = "fast"\n')
    why = "Linux refuses this bond: option lacp_rate: mode dependency failed"
    for argv in (["check", str(machine)], ["up", str(machine), "-d"]):
        with pytest.raises(BottomhalfError, match=why):
            cli.run(argv)


def test_a_monitor_on_the_command_line_takes_the_files_place():
    assert settings("arp_interval=100 arp_ip_target=10.0.0.1").miimon == 0
    assert settings("miimon=50").arp_interval == 0
