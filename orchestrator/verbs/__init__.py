"""The verbs: one table that feeds dispatch, help, completion and the check of scenarios.

A verb of the *machine* is ``module:function`` taking ``(session, argv)`` and giving a generator
(``orchestrator.session``); a verb of the *whole* takes ``(options, argv)`` and gives an exit code.
Modules are imported when a verb is used, so that the program answers at once.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bus.faults import KINDS
from orchestrator.errors import GOES_ON, HINT_COLUMNS, BottomhalfError, did_you_mean, listed

if TYPE_CHECKING:
    from orchestrator.session import Session, Steps


class Verb(NamedTuple):
    """One row of the grammar."""

    name: str
    layer: str  # whole, process, hardware, kernel, across
    usage: str
    help: str
    where: str  # module:function
    #: what is behind the verb belongs to the emulated machine's tool, unparsed
    tool: bool = False
    #: a step of a scenario may say it
    step: bool = False
    #: also a command of the machine's own prompt, beside those of the kernel layer
    shell: bool = False


#: Where a usage may be broken that has no `|`, or too few: not inside brackets.
_PIECES = re.compile(r"(?:\| )?(?:\[[^\[\]]*(?:\[[^\]]*\])?[^\[\]]*\](?:\.\.\.)?|\S+)")


def _fault_kinds() -> str:
    """The kinds as lines of help: each from the one table."""
    lines = []
    for kind in KINDS.values():
        targets = " ".join(kind.targets)
        lines += [f"{kind.name:<9} {targets:<8} {kind.doc}", f"{'':18} value: {kind.values}"]
    return "\n".join(lines)


_WHOLE = "orchestrator.verbs.whole"
_PROCESS = "orchestrator.verbs.process"
_HARDWARE = "orchestrator.verbs.hardware"
_KERNEL = "orchestrator.verbs.kernel"
_FILES = "orchestrator.verbs.files"
_PROGRAMS = "orchestrator.verbs.programs"

TABLE: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("up", "whole",
             "[MACHINE] [-d] [--name NAME] [--lan NAME] [--era E] [--bond 'mode=1 miimon=50'] "
             "[--set KEY=VALUE]",
             "start a machine; in a terminal the dashboard opens: q stops it, d leaves it running"
             "\n\n"
             "MACHINE: bond-pair if none is named, another bundled one (a wrong name lists\n"
             "them) or a file. --lan m1: on the switch of the machine m1; each then knows the\n"
             "other's name. --bond: options of bonding; --set: a behaviour of the kernel (of\n"
             "those that `bottomhalf era 6.1` lists). The machine tap-uplink has a real kernel\n"
             "as its gateway and needs root.",
             f"{_WHOLE}:up"),
        Verb("down", "whole", "[NAME]", "end a machine", f"{_WHOLE}:down"),
        Verb("guest", "whole",
             "[OPTION...] | --fetch | exec COMMAND | console | run [SCENARIO] | --help",
             "a real kernel in QEMU whose ixgbe drives our NIC processes\n\n"
             "Alone in a terminal: its console (Ctrl-] leaves it running). --exec runs commands,\n"
             "powers off, and exits as they did; -d leaves it running. --modules DIR: your own\n"
             "build of ixgbe, for Debian's 6.1 kernel, or with --kernel for any. --gdb waits for\n"
             "a debugger. While it runs: exec, console, and the verbs of an emulated machine.\n"
             "run plays a scenario in a guest of its own: the same file as for bottomhalf run;\n"
             "it takes --kernel, --modules, --smp, --accel, --append and --json.\n"
             "The first time, QEMU 11, a kernel and tools are fetched by apt into the cache\n"
             "folder (125 MB, no root, nothing is installed); --fetch does only that.\n\n"
             "-d, --detach        leave it running       --exec 'COMMANDS'   run these in it\n"
             "--console           its console            --name NAME         guest, without it\n"
             "--smp 2             CPUs                   --nics 2            NICs, 1 to 8\n"
             "--bond 'mode=1 miimon=100'                 a bond over all its NICs\n"
             "--kernel VMLINUZ    yours, with:           --modules DIR       its modules\n"
             "--append WORDS      more for its kernel    --accel auto|tcg|kvm\n"
             "--gdb               wait for a debugger",
             "orchestrator.verbs.guest:guest"),
        Verb("run", "whole",
             "[SCENARIO] [--json] [--simulate] [--processes] [--seed N] [--report DIR] [--era E] "
             "[--list]",
             "play a scenario on a machine of its own and judge it",
             "orchestrator.verbs.scenarios:run"),
        Verb("demo", "whole", "[--seed N] [--report DIR]",
             "the failover scenario with captions: a ping followed, a cable, a killed NIC",
             "orchestrator.verbs.scenarios:demo"),
        Verb("lab", "whole",
             "list | show NAME | run NAME | sheet NAME [--era E] [--seed N] [--step [N]] "
             "[--from N] [--answers] [--compare ERA,ERA] [--set KEY=VALUE] "
             "[--before 'COMMAND'] [--simulate] [--processes] [--json]",
             "labs: a question, a run that shows the answer, a page that says why",
             "orchestrator.verbs.labs:lab"),
        Verb("check", "whole", "FILE... | --keys [TABLE]",
             "validate machines, scenarios and labs, start nothing",
             "orchestrator.verbs.check:check"),
        Verb("era", "whole", "[A [B]] [--json]",
             "kernel eras: the presets, one preset's behaviours, what differs between two",
             f"{_WHOLE}:era"),
        Verb("doctor", "whole", "[--json]",
             "Python, cores, memory, tools found, where runs live, what runs",
             "orchestrator.doctor:doctor"),
        Verb("completion", "whole", "bash|zsh|fish", "a shell's completion script",
             f"{_WHOLE}:completion"),
        Verb("ps", "process", "[--json]",
             "node, pid, state, uptime, CPU %, memory (PSS), messages in and out, drops",
             f"{_PROCESS}:ps"),
        Verb("top", "process", "[NODE] [--pools] [--once] [--svg FILE] [--json]",
             "dashboards: the whole machine, one process, or a CPU's worker pools",
             f"{_PROCESS}:top"),
        Verb("kill", "process", "TARGET...", "SIGKILL: the process is gone", f"{_PROCESS}:kill",
             step=True),
        Verb("freeze", "process", "TARGET...", "SIGSTOP: it hangs, its link stays up",
             f"{_PROCESS}:freeze", step=True),
        Verb("thaw", "process", "TARGET...", "SIGCONT: it works off what waited",
             f"{_PROCESS}:thaw", step=True),
        Verb("restart", "process", "TARGET...",
             "a new process in a dead one's slot: remove, rescan, enslave again",
             f"{_PROCESS}:restart", step=True),
        Verb("cable", "hardware", "NIC... out|in", "pull or plug the cable at the switch",
             f"{_HARDWARE}:cable", step=True),
        Verb("card", "hardware", "NIC... out|in",
             "pull a NIC's card out of its slot while it runs (surprise removal), or put one in",
             f"{_HARDWARE}:card", step=True),
        Verb("fault", "hardware",
             "TARGET KIND[=VALUE]... [--for 2s] | list | clear [TARGET [KIND]]",
             "break a part of a device; what is broken; mend it\n\n"
             "Faults add up, none resets another; the kernel has to notice by itself. With --for\n"
             "the device mends itself after that time. list shows also what cable, kill and\n"
             "freeze broke; clear mends faults alone. TARGET is a node, active or\n"
             "backup; what befalls a port is said of the NIC at its cable, of lan:1 or gateway.\n\n"
             + _fault_kinds(),
             "orchestrator.verbs.fault:fault", step=True),
        Verb("regs", "hardware", "NIC [NAME...] [--json]",
             "registers by name: offset, value, fields, section of the datasheet\n\n"
             "NAME in any case: a register, RDT[3], an offset (0x800), or how names begin;\n"
             "without one all that differ from their reset value. Looking changes nothing: what\n"
             "a read by the driver would clear keeps its value.",
             "orchestrator.verbs.looking:regs", step=True),
        Verb("ring", "hardware", "NIC rx|tx QUEUE [--all] [--json]",
             "a descriptor ring: base, length, head, tail; whose, DD, EOP, length around both\n\n"
             "Read where it lies, in RAM; a dead NIC's ring is shown as it was left.",
             "orchestrator.verbs.looking:ring", step=True),
        Verb("ping", "kernel",
             "[-c N] [-i S] [-s BYTES] [-W S] [-w S] [-I IF] [-l N] [-t TTL] [-ADfnOq] HOST",
             "iputils' ping, from the emulated machine",
             f"{_KERNEL}:ping", tool=True, step=True),
        Verb("arping", "kernel", "[-c N] [-w S] [-i S] [-I IF] [-s ADDRESS] [-AbDfqU] HOST",
             "iputils' arping: who has an address, at the level of ARP",
             f"{_PROGRAMS}:arping", tool=True, step=True),
        Verb("tcpdump", "kernel",
             "-i IF [-i IF]... [-c N] [-w FILE|-] [-r FILE] [-s N] [-Q in|out] [-ADelnpqtvxX#] "
             "[EXPRESSION]",
             "what the taps of a device see, as text or pcapng\n\n"
             "IF: a device, any, or a port of the switch: lan:1, lan:gateway, lan (all of them).\n"
             "Several -i: a column each. -w - | wireshark -k -i - shows it live. EXPRESSION is\n"
             "libpcap's (man 7 pcap-filter); gateway and the machine's name are hosts in it.",
             "orchestrator.captures.tcpdump:tcpdump", tool=True),
        Verb("cat", "kernel", "FILE...", "/proc and /sys of the emulated machine",
             f"{_FILES}:cat", tool=True, step=True),
        Verb("ls", "kernel", "[FILE...]", "what there is in /proc and /sys", f"{_FILES}:ls",
             tool=True, step=True),
        Verb("dmesg", "kernel", "[-w] [-t] [-J]", "the kernel log", f"{_KERNEL}:dmesg", tool=True,
             step=True),
        Verb("insmod", "kernel", "MODULE [KEY=VALUE...]",
             "load a lab module; taskset chooses the CPU that runs it",
             f"{_PROGRAMS}:insmod", tool=True, step=True),
        Verb("rmmod", "kernel", "MODULE...", "remove a module", f"{_PROGRAMS}:rmmod", tool=True,
             step=True),
        Verb("lsmod", "kernel", "", "modules that are loaded", f"{_PROGRAMS}:lsmod", tool=True,
             step=True),
        Verb("modinfo", "kernel", "MODULE...", "what a module does, its parameters",
             f"{_PROGRAMS}:modinfo", tool=True),
        Verb("taskset", "kernel", "[-c] CPU COMMAND...", "run a program on that CPU",
             f"{_PROGRAMS}:taskset", tool=True, step=True),
        Verb("chcpu", "kernel", "-e|-d LIST", "take CPUs out of use and back, while all goes on",
             f"{_PROGRAMS}:chcpu", tool=True, step=True),
        Verb("iptables", "kernel", "[-t filter] -A|-D|-I|-L|-F|-Z ...", "netfilter's rules",
             f"{_PROGRAMS}:iptables", tool=True, step=True),
        Verb("ip", "kernel",
             "route [show|add|del|get|flush cache] ... | [-s] link [show] | "
             "link set DEV up|down|mtu N|master BOND|nomaster | addr | "
             "neigh [show|add|replace|del|flush] | monitor link",
             "routes, devices, addresses and neighbours",
             f"{_PROGRAMS}:ip", tool=True, step=True),
        Verb("sar", "kernel", "-n DEV INTERVAL [COUNT]",
             "sysstat's table of packets and kilobytes a second, from /proc/net/dev",
             "orchestrator.verbs.nettools:sar_main", tool=True),
        Verb("netstat", "kernel", "-ltunpw | -i",
             "sockets and their programs; the table of interfaces",
             "orchestrator.verbs.nettools:netstat_main", tool=True, step=True),
        Verb("date", "kernel", "[+FORMAT]", "what time it is on the machine",
             "orchestrator.verbs.nettools:date_main", tool=True, step=True),
        Verb("udp_echo", "kernel", "[-s ADDRESS] PORT",
             "send every UDP datagram back, until Ctrl-C (ours; nc -u -l -e cat)",
             f"{_PROGRAMS}:udp_echo", tool=True),
        Verb("udp_send", "kernel", "[-c N] [-i S] [-s BYTES] [-w S] [-q] HOST PORT",
             "send UDP datagrams to an echo port and time the answers (ours)",
             f"{_PROGRAMS}:udp_send", tool=True, step=True),
        Verb("ethtool", "kernel",
             "[-i|-k|-g|-G|-c|-C|-S|-l|-L|-x|-d|-t] DEV ...",
             "a port as its driver knows it: link, rings, moderation, queues, registers, self-test",
             f"{_PROGRAMS}:ethtool", tool=True, step=True),
        Verb("sh", "kernel", "[-c LINE]",
             "a prompt on the machine: echo X > FILE, pipes to the host's tools, history",
             "orchestrator.verbs.shell:sh", tool=True, step=True),
        Verb("follow", "across", "COMMAND",
             "run a command, then print the way of each packet it caused, with reasons",
             "orchestrator.views.follow:follow", tool=True, step=True),
        Verb("taps", "across", "COMMAND",
             "run a command, capture everywhere: who saw each frame, and by what rule\n\n"
             "Taps on the bond, each NIC and any; the switch's ports say what was on the wires.",
             "orchestrator.views.taps:taps", tool=True, step=True),
        Verb("flows", "across", "COMMAND [+ COMMAND...]",
             "run commands, then say which NIC's wire each of their flows took, both ways",
             "orchestrator.views.flows:flows", tool=True, step=True),
        Verb("ladder", "across", "COMMAND [+ COMMAND...]",
             "run commands of ours, then draw the LACPDUs between each NIC and the switch",
             "orchestrator.views.ladder:ladder", tool=True, step=True),
        Verb("drops", "across", "COMMAND",
             "run a command, then say which counters of lost packets moved, and where",
             "orchestrator.views.drops:drops", tool=True, step=True),
        Verb("trace", "across", "[NODE...] [-e irq,softirq,...] [--for 2s] [--json]",
             "the flight recorders as ftrace text, until Ctrl-C or for a while\n\n"
             "-e takes tracepoints and groups: irq softirq tasklet timer sched ipi workqueue napi "
             "net\n(these are shown without -e) cpuhp pool packet mmio dma msi wire lan fault\n\n"
             "mmio  register accesses as the CPU makes and the NIC takes them, fields decoded\n"
             "dma   descriptors and frames that the NIC reads and writes in memory\n"
             "msi   causes, messages of the NIC, their way through the interrupt controller",
             "orchestrator.tracing.tracing:trace"),
        Verb("wq", "across", "[NAME...] [-i SECONDS] [--for 10s] [--json] | pools [--json]",
             "workqueues as the kernel's wq_monitor prints them; pools: as wq_dump\n\n"
             "total    works that workers began           infl     of these, not finished yet\n"
             "CPUtime  seconds of CPU time they took      CPUhog   of these kept the CPU 10 ms\n"
             "CMW/RPR  per-CPU: wake-ups because a work slept; unbound: workers brought back\n"
             "mayday   calls for the rescuer              rescued  works that it ran\n\n"
             "NAME is a regular expression. Every second on a terminal, until Ctrl-C; once "
             "elsewhere (-i 0).\n"
             "Linux has these counters since 6.5; here every kernel with worker pools keeps them.",
             "orchestrator.verbs.workqueue:wq", shell=True),
    )
}  # fmt: skip

LAYERS = {
    "whole": "the machine as a whole",
    "process": "its processes (what a signal does)",
    "hardware": "its hardware (what a hand does)",
    "kernel": "its kernel (what one types on that Linux box)",
    "across": "across all of it",
}

#: Words that mean two things here.
REFUSED = {
    "help": "bottomhalf --help (all verbs) · bottomhalf VERB --help (what one takes)",
    "stop": (
        "freeze eth0 (SIGSTOP: it hangs) · kill eth0 (SIGKILL: it is gone) · "
        "down (the whole machine)"
    ),
    "start": (
        "thaw eth0 (SIGCONT: it goes on) · restart eth0 (a new process) · up (a whole machine)"
    ),
    "plug": "cable eth0 in (the cable) · card eth0 in (a new card in the slot)",
    "unplug": "cable eth0 out (the cable) · card eth0 out (the card)",
}

#: Verbs of the design that no one has built; the limitations page names them.
NOT_BUILT = (
    "report",
)  # fmt: skip


def lookup(name: str) -> Verb:
    """The verb, or the message that says which one was probably meant."""
    if name in TABLE:
        return TABLE[name]
    if name in REFUSED:
        raise BottomhalfError(f"`{name}` is not a verb here", REFUSED[name])
    if name in NOT_BUILT:
        raise BottomhalfError(
            f"`{name}` is not built yet", listed("docs/limitations.md says what is; verbs:", TABLE)
        )
    raise BottomhalfError(f"no verb `{name}`{did_you_mean(name, TABLE)}", listed("verbs:", TABLE))


def load(verb: Verb) -> Callable[..., Any]:
    """The function behind a verb."""
    module, _, function = verb.where.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


#: Verbs that need no kernel of ours though their layer does: recorders of NICs.
_WITHOUT_KERNEL = ("trace",)


def needs_our_kernel(verb: Verb) -> bool:
    """Has it nothing of ours to work on where the kernel is a guest's?"""
    return verb.layer in ("kernel", "across") and verb.name not in _WITHOUT_KERNEL


def _of_lan(argv: Sequence[str]) -> bool:
    """Does a tcpdump look at ports of the switch, which are ours?"""
    from nodes.machine import LAN  # noqa: PLC0415

    named = [argv[n + 1] for n, word in enumerate(argv[:-1]) if word == "-i"]
    named += [word[2:] for word in argv if word.startswith("-i") and len(word) > 2]
    return bool(named) and all(name.partition(":")[0] == LAN for name in named)


def start(session: Session, argv: Sequence[str]) -> Steps:
    """A command line of a machine verb at work; the same for a shell and a scenario's step."""
    from nodes.machine import LAN  # noqa: PLC0415  (a program of the gateway runs at the LAN)

    verb = lookup(argv[0])
    settings = session.machine.settings
    foreign = settings.guest and not session.machine.own_guest  # it takes no word
    ours = verb.name == "tcpdump" and (foreign or _of_lan(argv[1:]))
    if settings.guest and session.cpu != LAN and needs_our_kernel(verb) and not ours:
        from orchestrator.verbs import guest  # noqa: PLC0415

        return guest.kernel_verb(session, verb, argv[1:])
    steps: Steps = load(verb)(session, list(argv[1:]))
    return steps


class Options(NamedTuple):
    """What stood behind a verb of ours."""

    words: list[str]
    flags: list[str]
    values: dict[str, list[str]]

    def value(self, name: str, default: str | None = None) -> str | None:
        """Last value given for an option."""
        return self.values[name][-1] if name in self.values else default


def parse(
    verb: str, argv: Sequence[str], flags: Sequence[str] = (), values: Sequence[str] = ()
) -> Options:
    """Split the words behind one of our verbs; unknown options get a message."""
    found = Options([], [], {})
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            found.words.extend(rest)
            break
        if word in flags:
            found.flags.append(word)
        elif name in values:
            if not equals:
                if not rest:
                    raise BottomhalfError(f"{verb} {name}: a value is missing", usage(verb))
                value = rest.pop(0)
            found.values.setdefault(name, []).append(value)
        elif word.startswith("-") and len(word) > 1:
            raise BottomhalfError(
                f"{verb} has no option `{name}`{did_you_mean(name, [*flags, *values])}", usage(verb)
            )
        else:
            found.words.append(word)
    return found


def usage(verb: str) -> str:
    """Usage of a verb: one line, or several where it is long."""
    head = f"bottomhalf {verb}"
    lines: list[str] = []
    ways = re.split(r" (?=\| )", TABLE[verb].usage)
    short = all(len(way) < HINT_COLUMNS for way in ways) and len(ways) > 1
    for piece in ways if short else _PIECES.findall(TABLE[verb].usage):
        if lines and len(lines[-1]) + len(piece) < HINT_COLUMNS:
            lines[-1] += f" {piece}"
        elif lines:
            lines.append(GOES_ON + piece)
        else:
            lines.append(f"{head} {piece}")
    return "\n".join(lines) or head
