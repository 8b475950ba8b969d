"""The player: steps at their times, phases, verdicts, what is said when it fails."""

from __future__ import annotations

import io
from pathlib import Path

from fake_machine import INTERVAL_NS, FakeMachine

from orchestrator.ledger import read
from orchestrator.machines.kernellog import LogLine
from orchestrator.scenarios import result, scenario
from orchestrator.scenarios.play import Player
from orchestrator.scenarios.story import PlainStory, Silence


def play(machine: FakeMachine, name: str = "failover", **options):
    return Player(machine, scenario.load(name), **options).play()


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return str(path)


def test_steps_are_done_at_their_times_with_active_resolved_then(machine):
    played = play(machine)
    done = [call for call in machine.calls if call[0] in ("cable", "kill", "restart")]
    assert done == [
        ("cable", "eth0", False),
        ("cable", "eth0", True),
        ("kill", "eth1"),
        ("restart", "eth1"),
    ]
    assert [phase.start_ms for phase in played.phases] == [0.0, 2000.0, 5000.0, 7000.0, 12000.0]


def test_phases_say_what_each_step_cost(machine):
    played = play(machine)
    gaps = [phase.gap_ms for phase in played.phases]
    assert gaps[0] == gaps[2] == gaps[4] == 0.0
    assert 100 <= gaps[1] <= 125
    assert 2000 <= gaps[3] <= 2025
    assert "making interface the new active one" in played.phases[1].cause
    assert [phase.active for phase in played.phases] == ["eth0", "eth1", "eth1", "eth0", "eth0"]
    assert played.passed


def test_ping_runs_quietly_on_the_named_cpu_and_is_interrupted_at_the_end(machine, tmp_path):
    name = written(tmp_path, 'cpu = "cpu1"\nping = "-i 0.01 gateway"\nuntil = "1s"\n')
    play(machine, name)
    assert machine.calls[0] == ("spawn", "cpu1", "ping", "-q", "-i", "0.01", "gateway")
    assert ("signal", "ping", 2) in machine.calls


def test_failed_expectation_fails_the_run_and_says_why(machine, tmp_path):
    name = written(
        tmp_path,
        'until = "4s"\n[[step]]\nat = "1s"\ndo = "kill active"\nexpect = "gap <= 250ms"\n',
    )
    played = play(machine, name, seed=41)
    assert not played.passed
    (verdict,) = played.verdicts
    assert 2000 <= verdict.value <= 2025
    lines = result.failures(played, read(machine), "/tmp/report")
    assert lines[0].startswith("FAILED my step 1: gap 20")
    assert lines[0].endswith(" ms, expected <= 250")
    assert lines[1].startswith("  ended by [    3.0")
    assert "  report: /tmp/report" in lines
    assert lines[-1] == f"  replay: bottomhalf run {name} --seed 41"


def test_a_step_that_cannot_be_done_cuts_the_run_short_but_keeps_its_phases(machine, tmp_path):
    name = written(
        tmp_path,
        'until = "3s"\n[[step]]\nat = "1s"\ndo = "restart cpu1"\n',
    )
    machine.kill("cpu1")
    played = play(machine, name)
    assert not played.passed
    assert "step 1 (`restart cpu1`): cpu1: a killed CPU cannot be restarted" in played.cut_short
    assert sum(phase.sent for phase in played.phases) > 200


def test_ctrl_c_keeps_what_was_seen(machine):
    class Impatient(Silence):
        def tick(self, at_ns: int) -> None:
            if at_ns > 3_000_000_000:
                raise KeyboardInterrupt

    played = play(machine, story=Impatient())
    assert played.cut_short == "interrupted"
    assert [phase.name for phase in played.phases] == ["ping -i 0.01 gateway", "cable active out"]
    assert played.phases[1].lost > 0
    assert ("signal", "ping", 2) in machine.calls
    assert played.verdicts == []  # the phase that was cut is not judged
    assert result.failures(played, read(machine)) == []


def test_death_of_the_pinging_cpu_is_said(machine, tmp_path):
    def program(m: FakeMachine, job) -> None:
        m.later(500_000_000, lambda: setattr(job, "failed", "cpu0 died (SIGKILL)"))

    machine.programs["ping"] = program
    played = play(machine, written(tmp_path, 'until = "2s"\n'))
    assert played.cut_short == "ping: cpu0 died (SIGKILL)"


def test_every_request_of_the_ping_is_fetched_in_chunks(machine):
    played = play(machine)
    assert list(played.times.sent) == machine.sent
    assert dict(played.times.received) == machine.received
    assert len(machine.sent) > 1000
    assert played.times.sent[1] - played.times.sent[0] == INTERVAL_NS


def test_killed_process_and_its_successor_are_both_listed(machine):
    played = play(machine)
    rows = result.nodes_json(machine.settings, played.buried, machine.states())
    assert [(r["name"], r["exit"]) for r in rows if r["name"] == "eth1"] == [
        ("eth1", "SIGKILL"),
        ("eth1", None),
    ]
    assert [r["name"] for r in rows] == ["cpu0", "cpu1", "apic", "eth0", "eth1", "eth1", "lan"]


def test_plain_story_is_time_stamped_lines(machine):
    out = io.StringIO()
    play(machine, story=PlainStory(out.write))
    text = out.getvalue()
    assert text.startswith("failover: what does a failover cost, and who notices?\n")
    assert "[  2.000] 1 of 4: pulling the active NIC's cable\n" in text
    assert "[  2.000]   cable of eth0 is out\n" in text
    assert "[  2.102]   kernel: bond0: (slave eth1): making interface the new active one\n" in text


def test_table_has_the_figures_of_each_phase(machine):
    played = play(machine)
    text = result.as_text(played, read(machine), {"/proc/softirqs": "      CPU0\n HI: 0\n RX: 7\n"})
    first, *rest = text.splitlines()
    assert first.startswith("failover passed (in virtual time): ")
    row = next(line for line in rest if "kill active" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "7.0"
    assert int(cells[2]) == int(cells[3]) + int(cells[4])
    assert " RX: 7" in rest
    assert " HI: 0" not in rest
    assert all(len(line) <= 80 for line in rest if line.startswith(("|", "+")))


def test_log_line_is_stamped_as_dmesg_does():
    assert LogLine(12_071_034_999, 6, "text").stamped() == "[   12.071034] text"
