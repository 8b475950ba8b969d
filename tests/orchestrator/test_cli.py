"""The program as a shell runs it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from orchestrator import verbs

ROOT = Path(__file__).parent.parent.parent
GUARD_S = 60


@pytest.fixture
def bh(tmp_path: Path):
    """Run a command line with its own place for runs."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    environment = os.environ | {
        "BOTTOMHALF_RUN_DIR": str(runtime / "bottomhalf"),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
    }

    def run(*argv: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
            cwd=tmp_path,
            env=environment | (extra or {}),
            stdin=subprocess.DEVNULL,
        )

    return run


def test_version_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['bottomhalf', '--version']\n"
        "from orchestrator import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('rich', 'pydantic', 'zmq', 'psutil') if m in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    version, modules = done.stdout.splitlines()
    assert version.startswith("bottomhalf ")
    assert modules == "[]"


def test_help_lists_every_verb_by_layer(bh):
    said = bh("--help").stdout
    assert bh().stdout == said
    for verb in verbs.TABLE.values():
        assert f"\n  {verb.name} " in said
    assert all(len(line) <= 80 for line in said.splitlines())


def test_help_of_a_verb_is_its_usage(bh):
    assert bh("kill", "--help").stdout.startswith("bottomhalf kill TARGET...\n")
    assert bh("tcpdump", "--help").stdout.startswith("bottomhalf tcpdump -i IF ")  # no machine runs


def test_check_for_programs(bh):
    said = json.loads(bh("--json", "check", "failover").stdout)
    assert (said["file"], said["kind"]) == ("failover", "scenario")


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["down", "a", "b"], "down ends one machine, not 2"),
        (["up", "-d", "--name", ""], "a machine cannot be called ''"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(bh, argv: list[str], what: str):
    said = bh(*argv)
    assert said.returncode == 2
    assert said.stderr.startswith(f"bottomhalf: {what}")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["ps"],
            "bottomhalf: no machine is running\n"
            "  hint: bottomhalf up -d          or watch one first: bottomhalf demo\n",
        ),
        (
            ["stop", "eth0"],
            "bottomhalf: `stop` is not a verb here\n"
            "  hint: freeze eth0 (SIGSTOP: it hangs) · kill eth0 (SIGKILL: it is gone) · "
            "down (the whole machine)\n",
        ),
        (
            ["run", "failovr"],
            "bottomhalf: no scenario `failovr`; did you mean `failover`?\n"
            "  hint: bottomhalf run --list          a path needs a `/` or ends in .toml\n",
        ),
        (
            ["up", "-d", "--era", "5.4"],
            "bottomhalf: no preset for era 5.4\n"
            "  hint: presets are 2.6.18, 3.10, 6.1 (`bottomhalf era 3.10 6.1` shows what "
            "changed); one behaviour: --set packet_tap=rx_handler\n",
        ),
        (["--jsn", "ps"], "bottomhalf: no option `--jsn`; did you mean `--json`?\n"),
        (["killl", "eth0"], "bottomhalf: no verb `killl`; did you mean `kill`?\n"),
        (["run", "--sede", "7"], "bottomhalf: run has no option `--sede`; did you mean `--seed`?\n"),  # noqa: E501
        (["run", "--processes", "--seed", "7"], "bottomhalf: --processes has no seed"),
        (["lab", "list", "lacp"], "bottomhalf: lab list shows all labs and takes no name\n"),
        (["lab", "run", "lacp", "lacp"], "bottomhalf: run one lab at a time, not `lacp`\n"),
        (["check", "lacpp"], "bottomhalf: no machine, scenario or lab `lacpp`; did you mean `lacp`?\n  hint: machines: bond-lacp "),  # noqa: E501
        (["guest", "consol"], "bottomhalf: guest takes no `consol`; did you mean `console`?\n"),
        (["run", "real-driver"], "bottomhalf: no scenario `real-driver`: it is a lab\n  hint: bottomhalf lab run real-driver\n"),  # noqa: E501
        (["up", "failover"], "bottomhalf: no machine `failover`: it is a scenario\n  hint: bottomhalf run failover\n"),  # noqa: E501
        (["help"], "bottomhalf: `help` is not a verb here\n  hint: bottomhalf --help"),
        (["doctor", "eth0"], "bottomhalf: doctor takes no `eth0`\n"),
        (["completion", "bsh"], "bottomhalf: no completion for shell `bsh`; did you mean `bash`?\n"),  # noqa: E501
    ],
)  # fmt: skip
def test_slips_exit_2_with_two_lines(bh, argv, said):
    done = bh(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    lines = done.stderr.splitlines()
    assert (
        len([line for line in lines if not line.startswith(" " * 8)]) == 2
    )  # a long usage goes on
    assert "Traceback" not in done.stderr


def test_slip_in_a_file_names_file_and_line(bh, tmp_path: Path):
    (tmp_path / "my.toml").write_text('[bond0]\nslaves = ["eth0"]\nmii_mon = 100\n')
    done = bh("up", "-d", "my.toml")
    assert done.returncode == 2
    assert done.stderr == (
        "bottomhalf: my.toml:3: [bond0] has no key `mii_mon`; did you mean `miimon`?\n"
        "  hint: bottomhalf check --keys bond0 lists all with ranges and defaults\n"
    )


def test_check_says_what_a_file_is(bh):
    done = bh("check", "bond-pair", "failover")
    assert done.stdout == (
        "bond-pair: a machine, era 6.1, 2 CPUs, eth0 eth1, bond0 active-backup over eth0 eth1\n"
        "failover: a scenario of 4 steps on bond-pair, 15 s\n"
    )
    assert "miimon" in bh("check", "--keys", "bond0").stdout


def test_check_takes_a_file_for_what_its_keys_say(bh, tmp_path: Path):
    (tmp_path / "guest.toml").write_text("guest = true\n")
    (tmp_path / "short.toml").write_text('title = "?"\n[[step]]\ndo = "dmesg"\n')
    (tmp_path / "title.toml").write_text('title = "?"\n')
    assert bh("check", "guest.toml", "short.toml", "title.toml").stdout == (
        "guest.toml: a machine, whose CPUs are a guest's, eth0 eth1\n"
        "short.toml: a scenario of 1 step on bond-pair, until all is done\n"
        "title.toml: a scenario of 0 steps on bond-pair, until all is done\n"
    )
    said = json.loads(bh("--json", "check", "real-driver").stdout)
    assert said["kind"] == "lab"
    assert said["text"].startswith("real-driver: a lab that the emulated machine and a real kernel")
    (tmp_path / "lab.toml").write_text('scenario = "failover"\n')
    said = bh("check", "lab.toml").stderr
    assert said.startswith("bottomhalf: lab.toml: a guest lab needs the key `title`\n")
    assert "check --keys guestlab " in said
    assert bh("check", "--keys", "guestlab").stdout.startswith("title\n    the question")
    (tmp_path / "step.toml").write_text("step = 3\n")
    assert "step = 3: allowed is tables, each with its" in bh("check", "step.toml").stderr
    (tmp_path / "flat.toml").write_text("lan = 3\n")
    assert "flat.toml:1: lan = 3: allowed is a table\n" in bh("check", "flat.toml").stderr


def test_era_shows_what_differs(bh):
    rows = {r["behaviour"]: r for r in json.loads(bh("era", "2.6.18", "6.1", "--json").stdout)}
    assert rows["packet_tap"] == {
        "behaviour": "packet_tap", "2.6.18": "skb_bond", "6.1": "rx_handler",
    }  # fmt: skip
    assert rows["ksoftirqd_nice"]["2.6.18"] == 19


def test_run_list_has_titles(bh):
    assert bh("run", "--list").stdout.startswith("failover           15 s  what does a failover")


def test_completion_scripts_of_three_shells(bh):
    for shell in ("bash", "zsh", "fish"):
        done = bh("completion", shell)
        assert done.returncode == 0
        assert "_BOTTOMHALF_COMPLETE" in done.stdout


def test_down_without_a_machine_is_fine(bh):
    done = bh("down")
    assert done.returncode == 0
    assert "no machine is running" in done.stderr


def test_doctor_finds_this_host_fit(bh):
    findings = json.loads(bh("doctor", "--json").stdout)
    assert {f["name"] for f in findings} >= {"python", "packages", "cores", "runs live in"}
    assert all(f["ok"] for f in findings if f["name"] in ("python", "packages"))
    assert bh("doctor").stdout.startswith("This host can run machines.\n")


def test_completion_knows_nodes_and_roles(bh):
    done = bh(
        extra={
            "_BOTTOMHALF_COMPLETE": "bash_complete",
            "COMP_WORDS": "bottomhalf kill e",
            "COMP_CWORD": "2",
        }
    )
    assert done.stdout.split() == ["plain,eth0", "plain,eth1"]


# -- the simulation


def test_same_seed_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path):
    said = []
    for hash_seed in ("1", "2"):
        report = tmp_path / hash_seed
        done = subprocess.run(
            [
                *(sys.executable, "-m", "orchestrator.cli", "run", "--seed", "7", "--json"),
                *("--report", str(report)),
            ],
            capture_output=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            timeout=GUARD_S,
        )
        assert done.returncode == 0, done.stderr
        files = {str(p.relative_to(report)): p.read_bytes() for p in sorted(report.rglob("*.*"))}
        assert {"bond0.pcap", "eth0.pcap", "eth1.pcap", "dmesg.txt", "machine.toml"} <= set(files)
        files.pop("result.txt")  # names the report's folder
        said.append((done.stdout, files))
    assert said[0] == said[1]
    value = json.loads(said[0][0])
    assert value["passed"] is True
    assert value["ledger"]["balanced"] is True
    assert all(node["pid"] is None for node in value["nodes"])
    assert value["artefacts"]["captures"]["eth0"] == "eth0.pcap"


@pytest.mark.parametrize("seed", ["x", "²"])
def test_seed_is_a_number(bh, seed):
    text = f"bottomhalf: --seed {seed}: a whole number"
    assert bh("run", "--seed", seed).stderr.startswith(text)


def test_failed_expectation_exits_1_and_can_be_replayed(bh, tmp_path: Path):
    (tmp_path / "my.toml").write_text(
        'until = "4s"\n[[step]]\nat = "1s"\ndo = "kill active"\nexpect = "gap <= 1ms"\n'
    )
    done = bh("run", "my.toml", "--seed", "7")
    assert done.returncode == 1
    assert "FAILED my step 1: gap " in done.stdout
    assert "expected <= 1\n" in done.stdout
    assert "replay: bottomhalf run my.toml --seed 7" in done.stdout


# -- processes


def left_over(tmp_path: Path) -> list[str]:
    """Processes whose command line or open files lead into this test's directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        if f"{tmp_path}/run/" in maps:
            found.append(pid)
    return found


@pytest.mark.processes
def test_a_machine_that_nobody_waits_for_any_more_ends(tmp_path: Path):
    """Ctrl-C while ``up -d`` starts a machine: the starter has gone when the owner is ready."""
    place = tmp_path / "run" / "bottomhalf"
    place.parent.mkdir()
    started = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "up", "-d"],
        env=os.environ | {"BOTTOMHALF_RUN_DIR": str(place), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    guard = time.monotonic() + GUARD_S
    while not (place / "m1").exists():  # the owner is at work; it says so a third of a second later
        assert time.monotonic() < guard
    started.send_signal(signal.SIGINT)
    assert started.wait(GUARD_S) == 130
    while (place / "m1").exists() or left_over(tmp_path):
        assert time.monotonic() < guard


@pytest.mark.processes
def test_a_machine_that_stays_fails_over_is_mended_and_leaves_nothing(bh, tmp_path: Path):
    up = bh("up", "-d")
    assert up.returncode == 0, up.stderr
    assert up.stdout.startswith("m1 is up: bond-pair, era 6.1, 6 processes in ")
    assert len(up.stdout.splitlines()) == 4
    again = bh("up", "-d")
    assert again.returncode == 0
    assert again.stderr.startswith("bottomhalf: machine m1 is already running (bond-pair, pid ")
    assert "start a second one: bottomhalf up --name m2" in again.stderr
    already = json.loads(bh("--json", "up", "-d").stdout)
    assert (already["name"], already["already"]) == ("m1", True)
    for differs, words in (
        (["--era", "2.6.18"], "its era is 6.1, not 2.6.18"),
        (["--bond", "mode=1 miimon=50"], "its bond's miimon is 100, not 50"),
        (["--set", "packet_tap=skb_bond"], "it has another --set"),
    ):
        other = bh("up", "-d", *differs)
        assert other.returncode == 2
        assert other.stderr.startswith("bottomhalf: machine m1 is already running")
        assert other.stderr.splitlines()[0].endswith(f", not as asked: {words}")

    rows = json.loads(bh("ps", "--json").stdout)
    pids = {row["node"]: row["pid"] for row in rows}
    assert all(row["state"] == "running" for row in rows)
    assert all(row["pss_bytes"] > 0 for row in rows)

    ping = bh("ping", "-c", "2", "-i", "0.2", "gateway")
    assert ping.returncode == 0
    assert "2 packets transmitted, 2 received, 0% packet loss" in ping.stdout

    os.kill(pids["eth0"], 9)
    # fails over at the second look of the driver's service timer; ping until a reply comes back
    ping = bh("ping", "-c", "1", "-w", "20", "-i", "0.2", "gateway")
    assert ping.returncode == 0
    bond = bh("cat", "/proc/net/bonding/bond0").stdout
    assert "Currently Active Slave: eth1" in bond
    assert "Link Failure Count: 1" in bond.split("Slave Interface: eth0")[1].split("eth1")[0]
    dead = bh("kill", "eth0")
    assert dead.returncode == 0
    assert dead.stderr.startswith("bottomhalf: eth0 is already dead (SIGKILL, ")
    assert bh("restart", "eth0").returncode == 0
    assert "enslaving as a backup" in bh("dmesg").stdout.lower()

    follow = bh("follow", "ping", "-c", "1", "gateway")
    assert follow.returncode == 0
    assert "bond0 hands it to eth1" in follow.stdout
    unknown = bh("cat", "/proc/net/tcp")
    assert unknown.returncode == 1
    assert unknown.stderr == "cat: /proc/net/tcp: No such file or directory\n"

    down = bh("down")
    assert (down.returncode, down.stdout) == (0, "m1 is down\n")
    assert left_over(tmp_path) == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.processes
def test_foreground_machine_ends_with_its_shell(bh, tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "up"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ
        | {"BOTTOMHALF_RUN_DIR": str(tmp_path / "run" / "bottomhalf"), "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("m1 is up")
    process.kill()
    process.wait(GUARD_S)
    process.stdout.close()
    assert bh("down").returncode == 0  # waits until it is gone, whoever was first
    assert left_over(tmp_path) == []


@pytest.mark.processes
def test_boot_cpu_killed_under_a_ping_is_said(bh):
    assert bh("up", "-d").returncode == 0
    rows = {row["node"]: row["pid"] for row in json.loads(bh("ps", "--json").stdout)}
    os.kill(rows["cpu0"], 9)
    ping = bh("ping", "-c", "1", "gateway")
    assert ping.returncode == 1
    assert ping.stderr.startswith("ping: cpu0 ")
    cat = bh("cat", "/proc/interrupts")  # what its last page holds
    assert cat.returncode == 0
    assert "eth0-TxRx-0" in cat.stdout
    assert "cpu0 is dead" in cat.stderr
    assert bh("down").returncode == 0


def in_terminal(argv: list[str], tmp_path: Path, keys: bytes, after: bytes) -> tuple[int, bytes]:
    """Run in a terminal of its own and type ``keys`` once ``after`` is on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        environment = os.environ | {
            "BOTTOMHALF_RUN_DIR": str(tmp_path / "run" / "bottomhalf"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
        }
        os.execve(sys.executable, [sys.executable, "-m", "orchestrator.cli", *argv], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen, typed = b"", False
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is gone
            data = b""
        if not data:
            break
        seen += data
        if not typed and after in seen:
            os.write(terminal, keys)
            typed = True
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), seen


@pytest.mark.processes
def test_q_in_the_dashboard_stops_the_machine_and_d_leaves_it(bh, tmp_path: Path):
    code, seen = in_terminal(["up"], tmp_path, b"d", b"q quit")
    assert code == 0
    assert b"m1 goes on" in seen
    assert len(json.loads(bh("ps", "--json").stdout)) == 6
    assert bh("down").returncode == 0
    code, seen = in_terminal(["up"], tmp_path, b"q", b"q quit")
    assert code == 0
    assert b"m1 is down" in seen
    assert left_over(tmp_path) == []


@pytest.mark.processes
def test_ctrl_c_ends_the_foreground_machine(bh, tmp_path: Path):
    code, _ = in_terminal(["up"], tmp_path, b"\x03", b"q quit")
    assert code == 130
    assert bh("down").returncode == 0
    assert left_over(tmp_path) == []


@pytest.mark.processes
@pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump here")
def test_capture_streams_into_the_hosts_tcpdump(bh, tmp_path: Path):
    assert bh("up", "-d").returncode == 0
    environment = os.environ | {
        "BOTTOMHALF_RUN_DIR": str(tmp_path / "run" / "bottomhalf"),
        "PYTHONPATH": str(ROOT),
    }
    capture = subprocess.Popen(
        [
            *(sys.executable, "-m", "orchestrator.cli", "tcpdump"),
            *("-i", "bond0", "-c", "4", "-w", "-", "icmp"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert capture.stdout is not None
    assert capture.stderr is not None
    header = capture.stdout.read(24)  # the tap is open once the header is written
    ping = bh("ping", "-c", "2", "-i", "0.2", "gateway")
    assert ping.returncode == 0
    data = header + capture.stdout.read()
    assert capture.wait(GUARD_S) == 0
    assert b"4 packets captured" in capture.stderr.read()
    capture.stdout.close()
    capture.stderr.close()
    text = subprocess.run(
        ["tcpdump", "-nn", "-t", "-r", "-"], input=data, capture_output=True, check=True
    ).stdout.decode()
    assert [line.split(",")[0].split("ICMP ")[1] for line in text.splitlines()] == [
        "echo request", "echo reply",
    ] * 2  # fmt: skip
    assert bh("down").returncode == 0


def test_h_is_help_before_and_behind_a_verb_of_ours(bh):
    assert bh("-h").stdout == bh("--help").stdout
    assert bh("ps", "-h").stdout == bh("ps", "--help").stdout
