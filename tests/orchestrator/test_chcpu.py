"""The verb chcpu: the tool's words on stdout and stderr, ours beside them."""

from __future__ import annotations

import json
import signal

from nodes.cpu.page import CPU_SCHEMA
from orchestrator.completing import candidates
from orchestrator.shell.shellinput import World, complete


def program(*said, code=0):
    def run(machine, job):
        job.output += said
        machine.later(1000, lambda: setattr(job, "exit_code", code))

    return run


def test_words_and_exit_code_are_the_tools_own(say, machine):
    machine.programs["chcpu"] = program(
        (1, "CPU 1 disabled\n"), (2, "chcpu: CPU 9 does not exist\n"), code=64
    )
    said = say("chcpu -d 1,9")
    assert (said.code, said.out) == (64, "CPU 1 disabled\n")
    assert said.err == "chcpu: CPU 9 does not exist\n"


def test_a_person_sees_the_mend_and_what_there_is(say, machine):
    machine.programs["chcpu"] = program(
        (1, "CPU 1 disabled\n"),
        (2, "chcpu: CPU 0 is not hot pluggable\nchcpu: CPU 9 does not exist\n"),
        code=64,
    )
    said = say("chcpu -d 0,1,9", terminal=True)
    assert "  hint: mend: bottomhalf chcpu -e 1\n" in said.err
    assert (
        "  hint: cpu0 boots the machine and owns its tables; those that can go: cpu1\n" in said.err
    )
    assert "  hint: CPUs are cpu0 cpu1\n" in said.err


def test_json_has_a_row_for_each_cpu(say, machine):
    machine.programs["chcpu"] = program(
        (1, "CPU 1 disabled\n"), (2, "chcpu: CPU 9 does not exist\n"), code=64
    )
    said = say("chcpu -d 1,9", json=True)
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"cpu": 1, "ok": True, "said": "disabled"},
        {"cpu": 9, "ok": False, "said": "does not exist"},
    ]
    assert said.err == ""
    machine.programs["chcpu"] = program((2, "chcpu: bad usage\n"), code=1)
    assert say("chcpu", json=True).err == "chcpu: bad usage\n"


def test_a_dead_cpu_is_told_to_the_person_not_to_the_kernel(say, machine):
    machine.programs["chcpu"] = program()
    machine.kill("cpu1")
    machine.hung.add("cpu1")
    hint = "  hint: cpu1's process is dead; the kernel does not know and waits for it\n"
    assert say("chcpu -d 1", terminal=True).err == hint
    assert say("chcpu -d 1").err == ""
    assert ("signal", "chcpu", signal.SIGINT) not in machine.calls


def test_nobody_waits_for_a_cpu_whose_process_is_dead(say, machine):
    opens = program()
    machine.programs["chcpu"] = lambda machine, job: None
    machine.programs["write"] = lambda machine, job: job.argv[2:] or opens(machine, job)
    machine.ram.page("cpu0", CPU_SCHEMA)["cpu_callout"] = 0b10
    machine.later(5_000_000, lambda: machine.kill("cpu1"))
    began = machine.now_ns()
    said = say("chcpu -d 1", terminal=True)
    assert said.code == 1
    assert said.err == (
        "chcpu: cpu1's process is dead (SIGKILL): it never answers\n"
        "  hint: the kernel goes on waiting, 120 s in all; a CPU is back with the next machine: "
        "bottomhalf down\n"
    )
    assert machine.now_ns() - began < 2_000_000_000
    said = say("sh -c 'echo 0 > /sys/devices/system/cpu/cpu1/online'")
    assert (said.code, said.err) == (
        1,
        "bash: cpu1's process is dead (SIGKILL): it never answers\n",
    )


def test_a_dead_cpu_that_has_left_the_masks_is_the_kernels_to_speak_of(say, machine):
    machine.programs["chcpu"] = lambda machine, job: machine.later(
        4_000_000_000, lambda: setattr(job, "exit_code", 0)
    )
    machine.kill("cpu1")
    assert say("chcpu -d 1").code == 0
    machine.ram.page("cpu0", CPU_SCHEMA)["cpu_callout"] = 0b10
    assert say("chcpu -e 1").code == 0  # the kernel ends that by itself


def test_ctrl_c_does_not_reach_it_and_the_message_says_why(say, machine):
    machine.programs["chcpu"] = lambda machine, job: None
    said = say("chcpu -d 1", signals=[signal.SIGINT])
    assert said.err == "chcpu: waits for another CPU where no signal reaches it (D state)\n"


def test_completion_offers_cpus_that_can_go():
    assert candidates("chcpu") == ["-d", "-e", "1"]
    world = World(cpus=4)
    assert complete("chcpu ", "", world) == ["-d ", "-e "]
    assert complete("chcpu -d ", "", world) == ["1 ", "2 ", "3 "]
