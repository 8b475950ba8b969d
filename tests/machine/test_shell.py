"""The shell on a machine of processes: from a command line, and at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARD_S = 60
PROMPT = "root@m1:~# "
_CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]|\r|\x07")

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("sh")
    return os.environ | {
        "BOTTOMHALF_RUN_DIR": str(place / "run"),
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(place / "state"),
        "TERM": "xterm",
        "INPUTRC": os.devnull,
    }


Bh = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def bh(environment: dict[str, str]) -> Iterator[Bh]:
    """A machine, and what runs a command line on it."""

    def run(*argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *argv],
            env=environment,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
        )

    up = run("up", "-d")
    assert up.returncode == 0, up.stderr
    yield run
    assert run("down").returncode == 0


class Terminal:
    """An interactive ``sh`` in a terminal of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            argv = [sys.executable, "-m", "orchestrator.cli", "sh"]
            os.execve(sys.executable, argv, environment)
        self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> str:
        """What is shown up to and with ``text``."""
        guard = time.monotonic() + GUARD_S
        while text not in (shown := _CONTROL.sub("", self._unread)):
            assert time.monotonic() < guard, shown
            if select.select([self._fd], [], [], 1)[0]:
                self._unread += os.read(self._fd, 65536).decode()
        seen, _, self._unread = shown.partition(text)
        return seen + text

    def interrupt(self) -> None:
        """Ctrl-C at the prompt, again if nothing is shown of it: readline misses a signal that
        comes between its output and its select, and sees it with the next one."""
        self.type("\x03")
        while not self._unread and not select.select([self._fd], [], [], 5)[0]:
            self.type("\x03")

    def line(self, text: str) -> str:
        """Type a line at the prompt; what comes back before the next prompt."""
        self.type(text + "\n")
        return self.until(PROMPT).removesuffix(PROMPT).partition("\n")[2]

    def end(self, signo: int = 0) -> int:
        """Its exit code. A signal is sent again and again: readline misses one that comes between
        its prompt and its select."""
        while signo and not select.select([self._fd], [], [], 0.2)[0]:
            os.kill(self.pid, signo)
        while True:
            try:
                if not os.read(self._fd, 65536):
                    break
            except OSError:
                break
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_line_from_the_hosts_shell(bh: Bh) -> None:
    path = "/proc/sys/net/core/netdev_budget"
    said = bh("sh", "-c", f"echo 111 > {path} && cat {path}; cat /proc/interrupts | grep -c eth0")
    assert (said.returncode, said.stdout, said.stderr) == (0, "111\n3\n", "")
    wrong = bh("sh", "-c", "echo 1 > /proc/nix")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "bash: /proc/nix: No such file or directory\n"
    assert bh("sh", stdin="true\nexit 9\n").returncode == 9


def test_modules_on_a_chosen_cpu(bh: Bh) -> None:
    assert bh("taskset", "-c", "1", "insmod", "softirq_order").returncode == 0
    assert "softirq_order          16384  0\n" in bh("lsmod").stdout
    again = bh("insmod", "softirq_order")
    assert again.returncode == 1
    assert again.stderr == "insmod: ERROR: could not insert module softirq_order: File exists\n"
    assert "softirq_order: order=HI,TIMER,NET_TX,NET_RX,BLOCK,IRQ_POLL" in bh("dmesg").stdout
    assert bh("rmmod", "softirq_order").returncode == 0
    assert bh("cat", "/proc/modules").stdout == ""


def test_a_terminal(bh: Bh, environment: dict[str, str]) -> None:
    terminal = Terminal(environment)
    terminal.until(PROMPT)
    assert terminal.line("nproc") == "2\n"
    path = "/proc/sys/net/core/dev_weight"
    assert terminal.line(f"echo 32 > {path}; cat {path}") == "32\n"
    assert terminal.line("cat /proc/interrupts | grep eth1 | wc -l") == "3\n"
    said = terminal.line("cat /proc/versoin")
    assert said.startswith("cat: /proc/versoin: No such file or directory\n  hint: ")
    assert terminal.line("echo $?") == "1\n"

    terminal.type("ping -i 0.2 gateway\n")
    terminal.until("icmp_seq=2")
    terminal.type("\x03")
    assert "ping statistics ---" in terminal.until(PROMPT)
    assert terminal.line("echo $?") == "0\n"

    terminal.type("frobnic")
    terminal.until("frobnic")
    terminal.interrupt()
    assert "^C" in terminal.until(PROMPT)
    assert terminal.line("echo $?") == "130\n"

    terminal.type("cat /proc/sys/net/core/netdev_bud\t")
    terminal.until("netdev_budget")
    terminal.type("\x15cat /sys/class/net/bond0/bonding/act\t\n")
    assert "\neth" in terminal.until(PROMPT)

    terminal.type("\x04")
    assert terminal.end() == 0
    history = Path(environment["XDG_STATE_HOME"], "bottomhalf", "history")
    assert "nproc\n" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_the_history_is_there_next_time(bh: Bh, environment: dict[str, str]) -> None:
    first = Terminal(environment)
    first.until(PROMPT)
    first.line("uname -r")
    first.type("exit 3\n")
    assert first.end() == 3
    second = Terminal(environment)
    second.until(PROMPT)
    second.type("\x10\x10\n")  # twice to the line before
    assert "6.1.0\n" in second.until(PROMPT)
    assert second.end(signal.SIGTERM) == 0
