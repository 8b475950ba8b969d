"""A machine's file: what it becomes, and what each slip in it is answered with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.machine import BondSettings
from orchestrator.configuration import config, configtext, tomlfile
from orchestrator.errors import BottomhalfError

BASE = """\
era  = "6.1"
cpus = 2
nics = ["eth0", "eth1"]

[bond0]
slaves  = ["eth0", "eth1"]
mode    = "active-backup"
miimon  = 100
address = "192.168.1.10/24"
"""


def complaint(tmp_path: Path, old: str, new: str, **options) -> BottomhalfError:
    path = tmp_path / "my.toml"
    assert old in BASE
    path.write_text(BASE.replace(old, new, 1))
    with pytest.raises(BottomhalfError) as caught:
        config.load(str(path), **options)
    caught.value.what = caught.value.what.replace(f"{tmp_path}/", "")
    return caught.value


def test_bundled_machine_is_two_cpus_two_nics_and_a_bond():
    settings = config.load()
    assert settings.name == "bond-pair"
    assert settings.node_names == ("cpu0", "cpu1", "apic", "eth0", "eth1", "lan")
    assert settings.bond == BondSettings(slaves=("eth0", "eth1"))
    assert [nic.mac.hex(":") for nic in settings.nics] == [
        "52:54:00:00:00:10",
        "52:54:00:00:00:11",
    ]
    assert len(settings.gateway.addresses) == 8


def test_a_path_holds_a_slash_or_ends_in_toml(tmp_path: Path, monkeypatch):
    (tmp_path / "my.toml").write_text(BASE.replace("cpus = 2", "cpus = 4"))
    monkeypatch.chdir(tmp_path)
    assert config.load("my.toml").cpus == 4
    assert config.load("./my.toml").cpus == 4
    with pytest.raises(BottomhalfError, match="no machine `my`"):
        config.load("my")


def test_bond_string_is_laid_over_the_file():
    settings = config.load(bond="mode=1 miimon=50 updelay=200")
    assert settings.bond == BondSettings(slaves=("eth0", "eth1"), miimon=50, updelay=200)


def test_bond_string_takes_slaves_with_commas():
    settings = config.load(bond="slaves=eth1 miimon=50")
    assert settings.bond is not None
    assert settings.bond.slaves == ("eth1",)


def test_era_and_single_behaviours_of_the_command_line():
    settings = config.load(era="2.6.18", overrides=["packet_tap=rx_handler"])
    assert settings.era == "2.6.18"
    assert settings.overrides == (("packet_tap", "rx_handler"),)


def test_a_machine_without_a_bond():
    assert config.build(tomlfile.TomlFile("x.toml", "cpus = 1"), "x").bond is None


def test_written_file_reads_back_to_the_same_settings():
    settings = config.load(bond="primary=eth1 downdelay=100", overrides=["ksoftirqd_nice=19"])
    settings = settings._replace(fast_probe=False)
    file = tomlfile.TomlFile("machine.toml", configtext.to_toml(settings))
    assert config.build(file, settings.name) == settings


def test_unknown_key_names_file_line_table_key_and_the_nearest(tmp_path: Path):
    error = complaint(tmp_path, "miimon  =", "mii_mon =")
    assert error.what == "my.toml:8: [bond0] has no key `mii_mon`; did you mean `miimon`?"
    assert error.hint == "bottomhalf check --keys bond0 lists all with ranges and defaults"


def test_linux_refuses_arp_and_mii_monitoring_together(tmp_path: Path):
    error = complaint(tmp_path, "miimon  = 100", "miimon = 100\narp_interval = 100")
    assert error.what == (
        "my.toml:9: Linux refuses this bond: ARP monitoring cannot be used with MII monitoring"
    )
    assert error.hint == "miimon = 100 (line 8) and arp_interval = 100 (line 9): set one to 0"


def test_preset_that_does_not_exist():
    with pytest.raises(BottomhalfError) as caught:
        config.load(era="5.4")
    assert caught.value.what == "no preset for era 5.4"
    assert caught.value.hint == (
        "presets are 2.6.18, 3.10, 6.1 (`bottomhalf era 3.10 6.1` shows what changed); "
        "one behaviour: --set packet_tap=rx_handler"
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"6.1"', '"5.4"', "my.toml:1: no preset for era 5.4"),
        ('"6.1"', "6.1", 'my.toml:1: era = 6.1: allowed is "2.6.18" or "3.10" or "6.1"'),
        ("cpus = 2", "cpus = 99", "my.toml:2: cpus = 99: allowed is 1 to 64"),
        ("cpus = 2", "cpu = 2", "my.toml:2: a machine has no key `cpu`; did you mean `cpus`?"),
        ("cpus = 2", "cpus = ", "my.toml:2: not TOML: Invalid value"),
        ('"eth1"]\n\n', '"wlan0"]\n\n', 'my.toml:3: nics holds "wlan0"'),
        ('"eth1"]\n\n', '"eth0"]\n\n', 'my.toml:3: nics holds "eth0" twice'),
        ("slaves ", "slave ", "my.toml:6: [bond0] has no key `slave`; did you mean `slaves`?"),
        (
            'slaves  = ["eth0", "eth1"]',
            'slaves = ["eth0", "eth2"]',
            'my.toml:6: [bond0] slaves holds "eth2", which is no NIC of this machine; '
            "did you mean `eth1`?",
        ),
        ("miimon  = 100", "miimon = -1", "my.toml:8: [bond0] miimon = -1: allowed is 0 to 2147483647"),  # noqa: E501
        ("miimon  = 100", "miimon = true", "my.toml:8: [bond0] miimon = true: allowed is 0 to 2147483647"),  # noqa: E501
        (
            '"active-backup"',
            '"actve-backup"',
            'my.toml:7: [bond0] mode = "actve-backup" is no bonding mode; '
            "did you mean `active-backup`?",
        ),
        ("miimon  = 100", "lacp_rate = 1", "my.toml:8: Linux refuses this bond: option lacp_rate: mode dependency failed, not supported in mode active-backup(1)"),  # noqa: E501
            ("miimon  = 100", "tx_queues = 1", "my.toml:8: bonding's `tx_queues` is not built yet"),
        (
            "miimon  = 100",
            "miimon = 0\nupdelay = 100",
            "my.toml:9: Linux refuses this bond: "
            "Unable to set up delay as MII monitoring is disabled",
        ),
        (
            "192.168.1.10/24",
            "192.168.1.10",
            'my.toml:9: [bond0] address = "192.168.1.10": allowed is an IPv4 address with its '
            "prefix, 192.168.1.10/24",
        ),
        (
            "miimon  = 100",
            'primary = "eth11"',
            'my.toml:8: [bond0] primary = "eth11" is no slave; did you mean `eth1`?',
        ),
        ("[bond0]\n", "[bond1]\n", "my.toml:5: a machine has no key `bond1`; did you mean `bond0`?"),  # noqa: E501
    ],
)  # fmt: skip
def test_each_slip_has_its_message(tmp_path: Path, old: str, new: str, what: str):
    assert complaint(tmp_path, old, new).what == what


def test_slip_in_the_bond_string_names_the_option(tmp_path: Path):
    error = complaint(tmp_path, "100", "100", bond="mode=1 mii_mon=50")
    assert error.what == "--bond: [bond0] has no key `mii_mon`; did you mean `miimon`?"


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("packet_tapp=orig_dev", "--set: no behaviour `packet_tapp`; did you mean `packet_tap`?"),
        (
            "packet_tap=rx_handlr",
            "--set: packet_tap = rx_handlr: packet_tap is one of skb_bond, orig_dev, rx_handler; "
            "did you mean `rx_handler`?",
        ),
        ("packet_tap", "--set packet_tap: a `=` is missing"),
    ],
)
def test_slip_in_a_behaviour(override: str, what: str):
    with pytest.raises(BottomhalfError) as caught:
        config.load(overrides=[override])
    assert caught.value.what == what


def test_missing_file_is_named():
    with pytest.raises(BottomhalfError, match=r"nowhere/x\.toml: No such file or directory"):
        config.load("nowhere/x.toml")


@pytest.mark.parametrize("table", ["", "bond0", "lan", "scenario", "step"])
def test_keys_of_each_table_are_listed(table: str):
    text = configtext.keys_text(table)
    assert "allowed: " in text
    if table == "bond0":
        assert "miimon\n" in text
        assert "0 to 2147483647; default: 100" in text


def test_bundled_files_are_package_data(tmp_path: Path):
    """They are found wherever the packages are, not by the working directory."""
    script = "from orchestrator.configuration import tomlfile; print(tomlfile.bundled('machines'))"
    root = str(Path(config.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bond-pair" in done.stdout


# -- [lan]

LAN = """
[lan]
gateway_vlans = { 10 = ["192.168.10.1"] }
ageing = 20
ports = { eth0 = "trunk 10,20 native 1", eth1 = "trunk 10,20 native 1", gateway = "trunk 10 native 1" }
channels = { po1 = ["eth0", "eth1"] }
"""  # noqa: E501


def lan_of(tmp_path: Path, text: str):
    path = tmp_path / "my.toml"
    path.write_text('nics = ["eth0", "eth1"]\n' + text)
    return config.load(str(path))


def test_the_switch_and_its_text_read_back(tmp_path: Path):
    settings = lan_of(tmp_path, LAN)
    assert settings.gateway.vlans == ((10, ("192.168.10.1",)),)
    assert settings.lan.ageing_s == 20
    assert [tuple(port) for port in settings.lan.ports] == [
        ("eth0", 1, (10, 20)), ("eth1", 1, (10, 20)), ("gateway", 1, (10,)),
    ]  # fmt: skip
    assert [c[:3] for c in settings.lan.channels] == [("po1", ("eth0", "eth1"), "static")]
    again = tmp_path / "again.toml"
    again.write_text(configtext.to_toml(settings))
    assert config.load(str(again))._replace(name=settings.name) == settings


LACP = """
[lan]
channels = { po1 = ["lacp", "eth0", "eth1"] }
lacp = { po1 = { activity = "passive", rate = "fast", key = 3, keys = { eth1 = 7 }, wrong = { eth0 = "deaf" } } }
"""  # noqa: E501


def test_lacp_and_its_text_read_back(tmp_path: Path):
    settings = lan_of(tmp_path, LACP)
    lacp = settings.lan.channels[0].lacp
    assert (lacp.activity, lacp.rate, lacp.system_priority) == ("passive", "fast", 32768)
    assert [lacp.port_key(name) for name in ("eth0", "eth1")] == [3, 7]
    assert [lacp.port_wrong(name) for name in ("eth0", "eth1")] == ["deaf", ""]
    again = tmp_path / "again.toml"
    again.write_text(configtext.to_toml(settings))
    assert config.load(str(again))._replace(name=settings.name) == settings


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"lacp", ', "", "`po1` is no port-channel that speaks LACP"),
        ("eth1 = 7", "eth2 = 7", "`eth2` is no member of po1"),
        ("eth1 = 7", "eth1 = 0", "eth1 has key 0"),
        ('"deaf"', '"deef"', "eth0 cannot be wrong like `deef`; did you mean `deaf`?"),
        ('"fast"', '"quick"', '[lan] lacp.po1.rate = "quick": allowed is a table of channels'),
    ],
)
def test_slips_in_lacp_get_their_message(tmp_path: Path, old: str, new: str, what: str):
    with pytest.raises(BottomhalfError) as caught:
        lan_of(tmp_path, LACP.replace(old, new))
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("ageing = 20", "ageing = 0", "[lan] ageing = 0: allowed is 1 to 1000000"),
        ('"trunk 10,20 native 1", eth1', "3, eth1", "[lan] ports.eth0 = 3: allowed is a table"),
        ("10 = [", "5000 = [", "`5000` is no VLAN: 1 to 4094"),
        ("192.168.10.1", "x", '[lan] gateway_vlans holds "x", which is no IPv4 address'),
        ("ports = { eth0", "ports = { eth7", "[lan] ports: no port `eth7`; did you mean `eth"),
        ('"trunk 10,20 native 1", eth1', '"trnk 1", eth1', "is neither access nor trunk"),
        ('"trunk 10,20 native 1", eth1', '"access 5", eth1', "members of po1 have different VLANs"),
        ('po1 = ["eth0", "eth1"]', 'po1 = ["eth0", "eth0"]', "holds `eth0`, which is in po1"),
        ('po1 = ["eth0", "eth1"]', 'po1 = ["eth3"]', "po1 holds `eth3`: no NIC and no mode"),
        ('po1 = ["eth0", "eth1"]', "po1 = []", "po1 has no member"),
        ("po1", "eth0", "`eth0` is no name for one"),
    ],
)
def test_slips_in_the_switch_get_their_message(tmp_path: Path, old: str, new: str, what: str):
    with pytest.raises(BottomhalfError) as caught:
        lan_of(tmp_path, LAN.replace(old, new))
    assert what in caught.value.what
    assert "my.toml:" in caught.value.what
