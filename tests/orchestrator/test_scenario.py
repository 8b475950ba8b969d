"""A scenario's file: what it becomes, and what each slip in it is answered with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from orchestrator.errors import BottomhalfError
from orchestrator.scenarios import scenario

BASE = (resources.files("configs") / "scenarios" / "failover.toml").read_text()


def complaint(tmp_path: Path, old: str, new: str) -> BottomhalfError:
    path = tmp_path / "my.toml"
    assert old in BASE
    path.write_text(BASE.replace(old, new, 1))
    with pytest.raises(BottomhalfError) as caught:
        scenario.load(str(path))
    caught.value.what = caught.value.what.replace(f"{tmp_path}/", "")
    return caught.value


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(BASE.splitlines(), 1) if text in line)


def test_failover_is_the_main_job():
    loaded = scenario.load()
    assert loaded.name == "failover"
    assert loaded.ping == ("-i", "0.01", "gateway")
    assert [step.text for step in loaded.steps] == [
        "cable active out",
        "cable eth0 in",
        "kill active",
        "restart eth1",
    ]
    assert loaded.steps[0].at_ns == 2_000_000_000
    assert loaded.steps[0].expect[0] == ("gap", "<=", 250.0, "gap <= 250ms")
    assert loaded.machine.name == "bond-pair"


def test_a_real_kernel_has_its_own_bound_in_the_place_of_the_one_about_the_same():
    step = scenario.load().steps[0]
    assert [one.text for one in step.expect] == ["gap <= 250ms", "active == eth1"]
    assert [one.text for one in step.of_guest().expect] == ["active == eth1", "gap <= 2600ms"]
    assert "tick" in step.why


def test_a_bound_of_a_real_kernel_needs_its_reason(tmp_path: Path):
    said = complaint(tmp_path, 'why     = "a link', '# why = "a link')
    assert "needs the key `why`" in said.what
    said = complaint(tmp_path, '"gap <= 2600ms"', '"gpa <= 2600ms"')
    assert "nothing is called `gpa`" in said.what


def test_machine_of_a_scenario_is_looked_for_beside_it(tmp_path: Path):
    (tmp_path / "four.toml").write_text('cpus = 4\nnics = ["eth0", "eth1"]\n')
    path = tmp_path / "my.toml"
    path.write_text('machine = "./four.toml"\nuntil = "1s"\n')
    assert scenario.load(str(path)).machine.cpus == 4


def test_unknown_scenario_names_the_nearest():
    with pytest.raises(BottomhalfError) as caught:
        scenario.load("failovr")
    assert caught.value.what == "no scenario `failovr`; did you mean `failover`?"
    assert caught.value.hint == (
        "bottomhalf run --list          a path needs a `/` or ends in .toml"
    )


@pytest.mark.parametrize(
    ("old", "new", "at", "what"),
    [
        ("cable active out", "cabel active out", "cable active", "no verb `cabel`; did you mean `cable`?"),  # noqa: E501
        ("cable active out", "cable actve out", "cable active", "no node `actve`; did you mean `active`?"),  # noqa: E501
        ("cable active out", "stop eth0", "cable active", "`stop` is not a verb here"),
        ("cable active out", "top", "cable active", "`top` cannot be a step"),
        (
            "cable active out",
            "kill bond0",
            "cable active",
            "bond0 is a device inside the kernel, not a process",
        ),
        (
            "gap <= 250ms",
            "gapp <= 250ms",
            "gap <= 250",
            'expect = "gapp <= 250ms": nothing is called `gapp`; did you mean `gap`?',
        ),
        ("active out", "out active", "cable active", "cable: out or in?"),
        (
            "-i 0.01 gateway",
            "-z gateway",
            "-i 0.01 gateway",
            """ping = "-z gateway": ping: invalid option -- 'z'""",
        ),
        (
            "-i 0.01 gateway",
            "gatewy",
            "-i 0.01 gateway",
            'ping = "gatewy": ping: gatewy: Name or service not known',
        ),
        ("gap <= 250ms", "gap <= 250", "gap <= 250", 'expect = "gap <= 250": 250 is no gap'),
        ("gap <= 250ms", "gap 250ms", "gap <= 250", 'expect = "gap 250ms" is no comparison'),
        ("active == eth1", "active == eth3", "active == eth1", 'expect = "active == eth3": no NIC `eth3`'),  # noqa: E501
        ('"2s"', '"2"', '"2s"', 'at = "2": allowed is a time with its unit: 2s, 250ms'),
        ('"7s"', '"1s"', '"7s"', "step 3 comes before step 2"),
        ('"15s"', '"9s"', '"15s"', 'until = "9s": the last step begins at 12 s'),
        ("until ", "untill", "until ", "a scenario has no key `untill`; did you mean `until`?"),
        ('"bond-pair"', '"bond-pear"', "bond-pair", "no machine `bond-pear`; did you mean `bond-pair`?"),  # noqa: E501
        ("do      =", "doo     =", "cable active", "[step] has no key `doo`; did you mean `do`?"),
    ],
)  # fmt: skip
def test_each_slip_has_its_message(tmp_path: Path, old: str, new: str, at: str, what: str):
    assert complaint(tmp_path, old, new).what == f"my.toml:{line_of(at)}: {what}"


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("gap <= 250ms", 250.0, True),
        ("gap <= 250ms", 250.1, False),
        ("gap <= 250ms", None, False),
        ("lost == 0", 0, True),
        ("loss < 5%", 4.9, True),
        ("active == eth1", "eth1", True),
        ("active == eth1", None, False),
    ],
)
def test_expectations_hold_or_not(tmp_path: Path, text: str, value: object, holds: bool):
    path = tmp_path / "my.toml"
    path.write_text(f'until = "2s"\n[[step]]\nat = "1s"\ndo = "kill eth0"\nexpect = "{text}"\n')
    (expectation,) = scenario.load(str(path)).steps[0].expect
    assert expectation.holds(value) is holds  # type: ignore[arg-type]


def test_failed_expectation_says_what_was_seen():
    (expectation, _) = scenario.load().steps[0].expect
    assert expectation.failure(2104.0) == "gap 2104 ms, expected <= 250"
    assert expectation.failure(None) == "gap without end, expected <= 250"


def test_a_ping_may_name_a_device_or_an_address_that_is_there_only_later(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    for line in ("-I eth0 gateway", "-I 10.0.0.1 192.168.1.1", "m1"):
        path.write_text(f'until = "1s"\nping = "{line}"\n')
        assert scenario.load(str(path)).ping == tuple(line.split())


STEPS = """\
machine = "bond-pair"
[[step]]
do = "ping -c 1 gateway"
[[step]]
do = "{}"
"""


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("ping -Z gateway", "ping: invalid option -- 'Z'"),
        ("taskset -c 1 ping -i x gateway &", "ping: bad timing interval: x"),
        ("ping gatway", "ping: gatway: Name or service not known"),
        ("arping -c many gateway", "arping: invalid argument: 'many'"),
        ("arping", "arping: options and one host, please"),
        ("follow ping -c 1 -Z gateway", "ping: invalid option -- 'Z'"),
        ("drops 'ping -Z gateway'", "ping: invalid option -- 'Z'"),
        ("flows ping -c 1 gateway + arping -Z gateway", "arping: invalid option -- 'Z'"),
        ("udp_send -Z gateway 7", "udp_send: invalid option -- 'Z'"),
        ("udp_send gatway 7", "udp_send: gatway: Name or service not known"),
        (
            "udp_send gateway",
            "udp_send: usage: udp_send [-c N] [-i S] [-s BYTES] [-w S] [-q] HOST PORT",
        ),
        ("flows udp_send -s 7 gateway 7 + ping gateway", "udp_send: `7` is not 8 to 65507"),
        ("taps udp_echo -s nobody 7", "udp_echo: nobody: Name or service not known"),
        ("drops udp_echo 70000", "udp_echo: `70000` is not 1 to 65535"),
        ("sh -c 'echo 1 >'", "bash: syntax error near unexpected token `newline'"),
        (
            "sh -c 'nproc; true &&'",
            "bash: syntax error near unexpected token `newline'",
        ),
        ("sh -c 'echo $HOME'", "bash: $H... is not modelled"),
        ("sh -c echo 1", "bash: -c and one LINE, please"),
        ("ladder sh -c 'sleep 1 &' + sleep 1", "bash: a job in the background is not modelled"),
        ("chcpu -x 1", "chcpu: invalid option -- 'x'"),
        ("chcpu -d one", "chcpu: failed to parse CPU list: one"),
    ],
)
def test_what_a_program_would_refuse_is_refused_before_anything_runs(
    tmp_path: Path, do: str, said: str
):
    path = tmp_path / "my.toml"
    path.write_text(STEPS.format(do))
    with pytest.raises(BottomhalfError) as refused:
        scenario.load(str(path))
    assert refused.value.what == f"{path}:5: step 2, `{do}`: {said}"
    program = said.partition(":")[0].replace("bash", "sh")
    assert refused.value.hint.startswith(f"bottomhalf {program} ")
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("follow cat /proc/stat", "follow knows ping alone, not `cat`"),
        ("drops pign gateway", "drops: the machine has no program `pign`; did you mean `ping`?"),
        ("taps", "taps: which command?"),
        ("flows + +", "flows: which command?"),
        ("insmod softirq_strom", "no module `softirq_strom`; did you mean `softirq_storm`?"),
    ],
)
def test_what_a_step_can_never_run_is_refused_too(tmp_path: Path, do: str, said: str):
    path = tmp_path / "my.toml"
    path.write_text(STEPS.format(do))
    with pytest.raises(BottomhalfError) as refused:
        scenario.load(str(path))
    assert refused.value.what == f"{path}:5: step 2, `{do}`: {said}"


@pytest.mark.parametrize("do", ["ping -V", "arping -I bond0 gateway", "ping -I eth7 192.168.1.1",
                                "sleep 1", "flows ping gateway + udp_send gateway 7"])  # fmt: skip
def test_what_only_the_running_machine_can_know_is_left_to_it(tmp_path: Path, do: str):
    path = tmp_path / "my.toml"
    path.write_text(STEPS.format(do))
    assert len(scenario.load(str(path)).steps) == 2


def test_names_of_other_machines_are_hosts_where_a_machine_joins_one(tmp_path: Path):
    (tmp_path / "m.toml").write_text('[lan]\njoin = "m1"\n')
    path = tmp_path / "my.toml"
    path.write_text(STEPS.format("ping -c 1 m1").replace("bond-pair", "./m.toml"))
    assert len(scenario.load(str(path)).steps) == 2
    path.write_text(STEPS.format("ping -Z m1").replace("bond-pair", "./m.toml"))
    with pytest.raises(BottomhalfError, match="invalid option"):
        scenario.load(str(path))
