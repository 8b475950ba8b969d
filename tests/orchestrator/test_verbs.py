"""Verbs of the process, hardware and kernel layers, on a machine that keeps book."""

from __future__ import annotations

import json
import signal

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.nic.page import NIC_SCHEMA
from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.verbs import whole


def test_kill_sends_sigkill_and_prints_the_mend(say, machine):
    said = say("kill eth0")
    assert said.code == 0
    assert said.out == "eth0 (pid 41203) got SIGKILL\n  mend: bottomhalf restart eth0\n"
    assert ("kill", "eth0") in machine.calls


def test_several_targets_at_once(say, machine):
    say("kill eth0 eth1")
    assert [call for call in machine.calls if call[0] == "kill"] == [
        ("kill", "eth0"),
        ("kill", "eth1"),
    ]


def test_active_and_backup_are_what_the_bond_says_now(say, machine):
    machine.set_active("eth1")
    say("freeze active")
    say("kill backup")
    assert machine.calls == [("freeze", "eth1"), ("kill", "eth0")]


def test_kill_of_a_dead_node_is_fine_and_says_since_when(say, machine):
    say("kill eth0")
    machine.pump(machine.now + 12_000_000_000)
    said = say("kill eth0")
    assert said.code == 0
    assert said.err == (
        "bottomhalf: eth0 is already dead (SIGKILL, 12 s ago)\n  hint: bottomhalf restart eth0\n"
    )


def test_bond0_is_no_process(say):
    said = say("kill bond0")
    assert said.code == 2
    assert said.err == (
        "bottomhalf: bond0 is a device inside the kernel, not a process\n"
        "  hint: processes are cpu0 cpu1 apic eth0 eth1 lan; bond0's NICs are eth0 and eth1: "
        "bottomhalf kill active\n"
    )


def test_unknown_node_names_the_nearest(say):
    said = say("freeze eth")
    assert said.err.startswith("bottomhalf: no node `eth`; did you mean `eth1`?\n  hint: nodes are")


def test_a_verb_without_a_target_shows_its_usage(say):
    said = say("kill")
    assert said.err == "bottomhalf: kill what?\n  hint: bottomhalf kill TARGET...\n"


def test_freeze_and_thaw(say, machine):
    assert say("freeze eth0").out.endswith("got SIGSTOP\n  mend: bottomhalf thaw eth0\n")
    again = say("freeze eth0")
    assert (again.code, again.out) == (0, "")
    assert "eth0 is already frozen" in again.err
    assert say("thaw eth0").out == "eth0 (pid 41203) got SIGCONT\n"
    assert machine.calls == [("freeze", "eth0"), ("thaw", "eth0")]


def test_freeze_of_a_dead_node_is_refused(say):
    say("kill eth0")
    said = say("freeze eth0")
    assert said.code == 2
    assert said.err.startswith("bottomhalf: eth0 is dead (SIGKILL, ")


def test_restart_of_a_nic_removes_rescans_and_enslaves(say, machine):
    say("kill eth0")
    machine.ram.page("cpu0", CPU_SCHEMA).words[CPU_SCHEMA.index("nic_flags")] = 0
    machine.calls.clear()
    said = say("restart eth0")
    assert said.code == 0
    assert said.out == "eth0 (pid 41303) is a new process\n"
    assert machine.calls == [
        ("spawn", "cpu0", "pci-remove", "eth0"),
        ("restart", "eth0"),
        ("spawn", "cpu0", "pci-rescan", "eth0"),
        ("spawn", "cpu0", "enslave", "eth0"),
    ]


def test_restart_does_not_enslave_what_the_kernel_has_enslaved(say, machine):
    say("kill eth0")
    say("restart eth0")
    assert ("spawn", "cpu0", "enslave", "eth0") not in machine.calls


def test_restart_of_a_living_node_changes_nothing(say, machine):
    said = say("restart eth0")
    assert (said.code, said.out) == (0, "")
    assert "eth0 (pid 41203) is alive" in said.err
    assert machine.calls == []


def test_a_killed_cpu_is_not_restarted(say, machine):
    say("kill cpu1")
    said = say("restart cpu1")
    assert said.code == 2
    assert "a killed CPU cannot be restarted" in said.err
    assert ("restart", "cpu1") not in machine.calls


def test_restart_without_a_kernel_is_only_a_process(say, machine):
    say("kill cpu0 eth0")
    machine.calls.clear()
    said = say("restart eth0")
    assert machine.calls == [("restart", "eth0")]
    assert "cpu0 is dead, no kernel looks at the new eth0" in said.err


def test_cable_out_and_in(say, machine):
    assert say("cable active out").out == "cable of eth0 is out\n  mend: bottomhalf cable eth0 in\n"
    assert say("cable lan:2 in").out == "cable of eth1 is in\n"
    assert machine.calls == [("cable", "eth0", False), ("cable", "eth1", True)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("cable eth0", "cable: out or in?"),
        ("cable eth0 aut", "cable: out or in? did you mean `out`?"),
        ("cable cpu0 out", "cable: cpu0 has no cable"),
        ("cable eth2 out", "no node `eth2`; did you mean `eth1`?"),
        ("kill --force eth0", "kill has no option `--force`"),
    ],
)
def test_slips_behind_a_verb(say, machine, line, what):
    said = say(line)
    assert said.code == 2
    assert said.err.startswith(f"bottomhalf: {what}\n  hint: ")
    assert machine.calls == []


@pytest.mark.parametrize("word", ["stop", "start", "plug", "unplug"])
def test_words_that_mean_two_things_are_refused(word):
    with pytest.raises(BottomhalfError) as caught:
        verbs.lookup(word)
    assert caught.value.what == f"`{word}` is not a verb here"


def test_stop_has_the_hint_of_the_three_meanings():
    with pytest.raises(BottomhalfError) as caught:
        verbs.lookup("stop")
    assert caught.value.hint == (
        "freeze eth0 (SIGSTOP: it hangs) · kill eth0 (SIGKILL: it is gone) · "
        "down (the whole machine)"
    )


def test_verbs_of_later_issues_say_that_they_are_not_built():
    with pytest.raises(BottomhalfError, match="`report` is not built yet"):
        verbs.lookup("report")


def test_every_verb_of_the_table_can_be_loaded():
    for verb in verbs.TABLE.values():
        assert callable(verbs.load(verb)), verb.name


def test_ping_passes_its_words_through_and_looks_the_gateway_up_itself(say, machine):
    machine.programs["ping"] = lambda m, job: m.later(1000, lambda: setattr(job, "exit_code", 1))
    assert say("ping -c 5 -W 1 gateway").code == 1
    assert machine.calls == [("spawn", "cpu0", "ping", "-c", "5", "-W", "1", "gateway")]


def test_ping_runs_on_the_cpu_that_is_asked_for(say, machine):
    machine.programs["ping"] = lambda m, job: m.later(1000, lambda: setattr(job, "exit_code", 0))
    say("ping gateway", cpu="cpu1")
    assert machine.calls == [("spawn", "cpu1", "ping", "gateway")]


def test_ctrl_c_goes_to_ping_which_prints_its_statistics(say, machine):
    sent: list[int] = []
    machine.later(50_000_000, lambda: sent.append(signal.SIGINT))
    said = say("ping gateway", signals=sent)
    assert said.code == 0
    assert ("signal", "ping", signal.SIGINT) in machine.calls
    assert said.out.endswith("--- 192.168.1.1 ping statistics ---\n")
    assert "icmp_seq=4 " not in said.out.split("statistics")[-1]


def test_ping_says_so_when_its_cpu_dies(say, machine):
    machine.programs["ping"] = lambda m, job: m.later(
        1000, lambda: setattr(job, "failed", "cpu0 died (SIGKILL)")
    )
    said = say("ping gateway")
    assert said.code == 1
    assert said.err.startswith("ping: cpu0 died (SIGKILL)\n")


def test_dmesg_merges_the_logs_of_all_cpus_by_time(say, machine):
    machine.log("first")
    machine.pump(machine.now + 1_500_000)
    machine.log("second", cpu=1)
    machine.pump(machine.now + 12_000_000_000)
    machine.log("third")
    assert say("dmesg").out == (
        "[    0.000000] first\n[    0.001500] second\n[   12.001500] third\n"
    )
    assert say("dmesg -t").out == "first\nsecond\nthird\n"


def test_dmesg_as_json_is_util_linuxs(say, machine):
    machine.pump(machine.now + 1_500_000)
    machine.log("text")
    for line, options in (("dmesg -J", {}), ("dmesg", {"json": True})):
        assert json.loads(say(line, **options).out) == {
            "dmesg": [{"pri": 6, "time": 0.0015, "msg": "text"}]
        }


def test_dmesg_follows_until_a_signal(say, machine):
    sent: list[int] = []
    machine.later(400_000_000, lambda: machine.log("late"))
    machine.later(900_000_000, lambda: sent.append(signal.SIGINT))
    assert say("dmesg -w", signals=sent).out == "[    0.400000] late\n"


def test_dmesg_option_that_is_not_modelled(say):
    said = say("dmesg --ctime", terminal=True)
    assert said.code == 1
    assert said.err.startswith("dmesg: unrecognized option '--ctime'\n  hint: modelled are")


def test_ps_has_a_row_for_each_node(say, machine):
    say("kill eth1")
    rows = json.loads(say("ps --json").out)
    assert [row["node"] for row in rows] == list(machine.settings.node_names)
    assert {row["node"]: row["state"] for row in rows}["eth1"] == "dead (SIGKILL)"
    assert rows[0].keys() >= {
        "pid", "uptime_s", "cpu_percent", "pss_bytes", "messages_in", "messages_out", "drops",
    }  # fmt: skip


def test_ps_counts_messages_and_drops_of_the_page(say, machine):
    page = machine.ram.page("eth0")
    page["msgs_in"], page["send_full"], page["send_dead"] = 7, 2, 3
    row = json.loads(say("ps --json").out)[3]
    assert (row["messages_in"], row["drops"]) == (7, 5)


def test_ps_fits_80_columns(say):
    lines = say("ps").out.splitlines()
    assert lines[0].split()[:3] == ["NODE", "PID", "STATE"]
    assert len(lines) == 7
    assert all(len(line) <= 80 for line in lines)


# -- for programs, and with several machines


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("kill eth0", {"node": "eth0", "signal": "SIGKILL", "mend": "bottomhalf restart eth0"}),
        ("freeze eth1", {"node": "eth1", "signal": "SIGSTOP", "mend": "bottomhalf thaw eth1"}),
        ("cable eth0 out", {"node": "eth0", "cable": "out", "mend": "bottomhalf cable eth0 in"}),
        ("cable eth0 in", {"node": "eth0", "cable": "in", "mend": None}),
        ("kill cpu1", {"node": "cpu1", "signal": "SIGKILL", "mend": None}),
    ],
)
def test_what_was_done_is_an_object_for_programs(say, line: str, facts: dict[str, object]):
    said = json.loads(say(line, json=True).out)
    assert {key: said[key] for key in facts} == facts


def test_a_mend_names_the_machine_if_the_person_had_to(say):
    assert say("kill eth0", on="--on m2 ").out.endswith("mend: bottomhalf --on m2 restart eth0\n")


def test_a_new_apic_says_which_nics_may_wait_for_a_lost_interrupt(say, machine):
    say("kill apic")
    machine.ram.page("eth1", NIC_SCHEMA)["msi_lost_peer_dead"] = 2
    said = say("restart apic")
    assert "  eth1 lost 2 MSIs meanwhile" in said.out
    assert "mend: bottomhalf kill eth1; bottomhalf restart eth1\n" in said.out
    assert "eth0" not in said.out


def test_picture_that_cannot_be_written_is_a_message(say, tmp_path):
    said = say(f"top --svg {tmp_path}/nowhere/x.svg")
    assert said.code == 2
    assert said.err.startswith(f"bottomhalf: --svg {tmp_path}/nowhere/x.svg: No such file")


def test_ctrl_c_ends_a_ping_on_a_cpu_that_hangs(say, machine):
    machine.programs["ping"] = lambda m, job: None
    machine.signal = lambda job, number: machine.calls.append(("signal", number))
    sent: list[int] = []
    machine.later(1_000_000_000, lambda: sent.append(signal.SIGINT))
    said = say("ping gateway", signals=sent)
    assert (said.code, said.err) == (1, "ping: cpu0 does not answer\n")
    assert machine.calls[-1] == ("signal", signal.SIGINT)


def test_pings_statistics_for_programs(say, machine):
    text = (
        "PING 192.168.1.1 (192.168.1.1) 56(84) bytes of data.\n"
        "64 bytes from 192.168.1.1: icmp_seq=1 ttl=64 time=0.500 ms\n"
        "\n--- 192.168.1.1 ping statistics ---\n"
        "2 packets transmitted, 1 received, 50% packet loss, time 1000ms\n"
        "rtt min/avg/max/mdev = 0.500/0.500/0.500/0.000 ms\n"
    )

    def program(m, job) -> None:
        job.output.append((1, text))
        m.later(1000, lambda: setattr(job, "exit_code", 0))

    machine.programs["ping"] = program
    assert json.loads(say("ping -c 2 gateway", json=True).out) == {
        "destination": "192.168.1.1",
        "transmitted": 2,
        "received": 1,
        "duplicates": 0,
        "rtt_ms": {"min": 0.5, "avg": 0.5, "max": 0.5, "mdev": 0.0},
        "replies": [{"from": "192.168.1.1", "seq": 1, "ttl": 64, "time_ms": 0.5}],
        "exit": 0,
    }


def test_ping_that_found_nothing_to_do_has_no_object(say, machine):
    def program(m, job) -> None:
        job.output.append((2, "ping: nohost: Name or service not known\n"))
        job.exit_code = 2

    machine.programs["ping"] = program
    said = say("ping nohost", json=True)
    assert (said.code, said.out) == (2, "")
    assert said.err == "ping: nohost: Name or service not known\n"


@pytest.mark.parametrize(("machine", "line"), [("bond-pair", "active"), ("bond-lacp", "eth0")])
def test_what_up_says_to_break_can_be_broken(machine: str, line: str) -> None:
    text = whole._up_text(config.load(machine), machine, {"ready": True, "launched_ms": 700})
    assert f"kill {line} " in text


@pytest.mark.parametrize("name", verbs.TABLE)
def test_a_usage_fits_behind_a_hint_and_says_all(name: str):
    said = verbs.usage(name)
    assert all(len(line) <= 100 for line in f"  hint: {said}".splitlines())
    assert " ".join(said.split()) == f"bottomhalf {name} {verbs.TABLE[name].usage}".strip()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("cable out", "cable of which NIC?"),
        ("ps eth0", "ps shows all and takes no `eth0`"),
    ],
)
def test_words_that_are_missing_or_too_many_are_wrong_usage(say, line: str, what: str):
    said = say(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"bottomhalf: {what}\n")
