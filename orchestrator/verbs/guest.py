"""The verb ``guest``: a real kernel in QEMU whose NICs are our processes.

``guest`` alone starts one; ``guest exec`` and ``guest console`` talk to the one that runs. All
other verbs find it as they find an emulated machine; those of the kernel layer run the tool of that
name in the guest, where it has one.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.machine import MachineSettings, vfio_socket
from orchestrator.errors import EXPECTATION_FAILED, OK, BottomhalfError, did_you_mean, words
from orchestrator.machines.machine import GUEST_PLACE
from orchestrator.session import Session, Steps, Wait
from orchestrator.verbs import parse, usage

if TYPE_CHECKING:
    from orchestrator.cli import Options
    from orchestrator.guest.fetch import Fetched
    from orchestrator.guest.qemu import GuestPlan
    from orchestrator.machines.client import RemoteMachine
    from orchestrator.verbs import Options as Given
    from orchestrator.verbs import Verb

DEFAULT_NAME = "guest"
NICS_MAX = 8
SMP_MAX = 16
#: An emulated CPU boots in 7 s; a host that does other things beside may take ten times as long.
BOOT_TIMEOUT_S = 180
_LOOK_MS = 1000
#: Verbs of the kernel layer whose tool the guest has: what is typed runs there.
TOOLS = (
    "ping", "tcpdump", "cat", "ls", "dmesg", "insmod", "rmmod", "lsmod", "modinfo", "taskset",
    "ip", "netstat", "date", "ethtool", "sh",
)  # fmt: skip
_SUBVERBS = ("exec", "console", "run")
_START = "bottomhalf guest -d          starts one"


def guest(options: Options, argv: Sequence[str]) -> int:
    """Start a guest, or talk to the one that runs."""
    if argv and argv[0] == "exec":
        return _exec_in_running(options, argv[1:])
    if argv and argv[0] == "run":
        from orchestrator.verbs import guestrun  # noqa: PLC0415

        return guestrun.run(options, argv[1:])
    given = parse(
        "guest", argv,
        ("--console", "--gdb", "--fetch", "-d", "--detach"),
        ("--kernel", "--modules", "--smp", "--nics", "--exec", "--accel", "--bond", "--name",
         "--append"),
    )  # fmt: skip
    if given.words and (given.words[0] != "console" or len(given.words) > 1):
        raise BottomhalfError(
            f"guest takes no `{given.words[0]}`{did_you_mean(given.words[0], _SUBVERBS)}",
            f"to it while it runs: bottomhalf guest {' | '.join(_SUBVERBS)}",
        )
    if given.words or (_console_alone(given) and _runs(options)):
        return _console_of_running(options)
    from orchestrator.guest import fetch  # noqa: PLC0415

    check_files(given)
    fetched = fetch.everything(
        given.value("--kernel") or "", given.value("--modules") or "", "--fetch" in given.flags
    )
    if "--fetch" in given.flags:
        print(f"QEMU   {fetched.qemu.where}\nkernel {fetched.kernel}\ntools  {fetched.tools}")
        return OK
    return _start(options, given, fetched)


def _console_alone(given: Given) -> bool:
    return given.flags == ["--console"] and not given.values


def check_files(given: Given) -> None:
    kernel, modules = given.value("--kernel"), given.value("--modules")
    if kernel is not None and modules is None:
        raise BottomhalfError(
            "guest --kernel: a kernel needs its own modules",
            "--modules DIR, the folder that `make modules_install` filled (or the build tree)",
        )
    if kernel is not None and not Path(kernel).is_file():
        raise BottomhalfError(f"guest --kernel {kernel}: no such file", usage("guest"))
    if modules is not None and not Path(modules).is_dir():
        raise BottomhalfError(f"guest --modules {modules}: no such folder", usage("guest"))


def number(given: Given, name: str, default: int, low: int = 1, high: int = SMP_MAX) -> int:
    """A whole number behind an option."""
    text = given.value(name, str(default)) or ""
    if not text.isdecimal() or len(text) > 4 or not low <= int(text) <= high:
        raise BottomhalfError(f"guest {name} {text}: a number from {low} to {high}", usage("guest"))
    return int(text)


def _settings(given: Given, name: str) -> MachineSettings:
    """The machine around the guest: NICs, LAN, and what the guest's network shall be."""
    from orchestrator.configuration import config, tomlfile  # noqa: PLC0415

    file = tomlfile.read("machines", config.DEFAULT_MACHINE)
    nics = [f"eth{n}" for n in range(number(given, "--nics", 2, 1, NICS_MAX))]
    bond = given.value("--bond")
    file.data["nics"] = nics
    if bond is None:
        file.data.pop("bond0", None)
    else:
        file.data["bond0"] = {**file.data.get("bond0", {}), "slaves": nics}
    settings = config.build(file, config.DEFAULT_MACHINE, bond=bond)
    return settings._replace(
        name=name, hostname=name, guest=True, cpus=number(given, "--smp", 2),
    )  # fmt: skip


def _start(options: Options, given: Given, fetched: Fetched) -> int:
    from orchestrator.machines import owning, running  # noqa: PLC0415
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415

    name = given.value("--name", options.on) or DEFAULT_NAME
    settings = _settings(given, name)
    for other in running_machines():
        if other.name == name:
            raise running.already_running(other, "guest")
    plan = make_plan(given, settings, fetched)
    said = owning.start(settings, "guest", plan)
    directory = Path(said["directory"])
    if plan.gdb:
        sys.stderr.write(_gdb_text(directory, fetched.kernel))
    with running.connect(name) as machine:
        machine.hold()
        return _use(options, given, machine, directory, _booting(plan))


def make_plan(given: Given, settings: MachineSettings, fetched: Fetched) -> GuestPlan:
    """How the guest is started, by the options given."""
    from orchestrator.guest import initramfs, qemu  # noqa: PLC0415
    from orchestrator.guest.modules import CHANNEL, Modules  # noqa: PLC0415

    wish = given.value("--accel", "auto") or ""
    if wish not in qemu.ACCELERATORS:
        raise BottomhalfError(
            f"guest --accel {wish}: there is {words(qemu.ACCELERATORS)}", usage("guest")
        )
    accel = qemu.accelerator(wish)
    modules = Modules(fetched.modules)
    initrd, release = initramfs.build(fetched.tools, modules)
    gdb = "--gdb" in given.flags
    append = " ".join(filter(None, ("nokaslr" if gdb else "", given.value("--append"))))
    channel = all(map(modules.has, CHANNEL))
    kernel = fetched.kernel.resolve()
    return qemu.GuestPlan(
        fetched.qemu, kernel, initrd, release, channel, settings.cpus, accel, gdb, append
    )


def _gdb_text(directory: Path, kernel: Path) -> str:
    return (
        "the guest waits for a debugger:\n"
        f"  gdb -ex 'target remote {directory}/gdb' -ex continue vmlinux\n"
        f"  vmlinux: with debug information, of the same build as {kernel.name}; KASLR is off\n"
    )


def _booting(plan: GuestPlan) -> str:
    return f"Linux {plan.release} on {plan.smp} CPUs of QEMU ({plan.accel})"


def _use(options: Options, given: Given, machine: RemoteMachine, directory: Path, what: str) -> int:
    """What the person wants of a guest that has just been started."""
    signals: list[int] = []
    machine.catch_signals(signals, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    command = given.value("--exec")
    detach = bool({"-d", "--detach"} & set(given.flags))
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    console = "--console" in given.flags or (command is None and not detach and interactive)
    if console and command is None:
        return _console(machine, directory)
    try:
        _wait_for_boot(machine, signals, what, "--gdb" in given.flags)
        if command is not None:
            code = _run(options, machine, signals, ("sh", "-c", command))
            if console:
                return _console(machine, directory)
            if not detach:
                machine.shut_down()
                return code
        name = machine.settings.name
        if options.json:
            print(json.dumps({"name": name, "directory": str(directory), "kernel": what}))
        else:
            sys.stdout.write(_up_text(name, what))
            sys.stdout.flush()
        if detach:
            machine.release()
            return OK
        while not signals and not machine.lost:
            machine.pump(machine.now_ns() + 60_000_000_000, lambda: bool(signals) or machine.lost)
        return OK
    finally:
        if not machine.lost and not detach:
            machine.shut_down()


def _up_text(name: str, what: str) -> str:
    from orchestrator.machines.running import on_option  # noqa: PLC0415

    on = on_option(name, DEFAULT_NAME)
    return (
        f"{name} is up: {what}\n"
        f"  bottomhalf {on}guest exec 'ping -c 3 gateway'    a command in it\n"
        f"  bottomhalf {on}guest console                     its console (Ctrl-] leaves)\n"
        f"  bottomhalf {on}kill eth0                         then: bottomhalf {on}dmesg\n"
        f"  bottomhalf {on}down                              ends it\n"
    )


def _wait_for_boot(machine: RemoteMachine, signals: list[int], what: str, patient: bool) -> None:
    """Until the guest is ready; people are told how long it takes."""
    from orchestrator.guest.network import READY_FILE  # noqa: PLC0415

    job = machine.spawn(GUEST_PLACE, ("cat", READY_FILE))
    began = machine.now_ns()
    terminal = sys.stderr.isatty()
    while not job.done and not signals:
        machine.wait(lambda: job.done or bool(signals), _LOOK_MS)
        seconds = (machine.now_ns() - began) // 1_000_000_000
        if terminal:
            sys.stderr.write(f"\r  booting {what}: {seconds} s")
            sys.stderr.flush()
        if seconds > BOOT_TIMEOUT_S and not patient:
            raise BottomhalfError(
                f"the guest did not boot within {BOOT_TIMEOUT_S} s",
                "bottomhalf guest --console shows how far it gets", EXPECTATION_FAILED,
            )  # fmt: skip
    if terminal:
        sys.stderr.write("\n")
    if signals:
        raise KeyboardInterrupt
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf guest --console", EXPECTATION_FAILED)
    if "".join(text for _, text in job.take()).strip() != "0":
        sys.stderr.write("  its network is not up: bottomhalf dmesg\n")


def _run(
    options: Options, machine: RemoteMachine, signals: list[int], argv: tuple[str, ...]
) -> int:
    from orchestrator.session import drive  # noqa: PLC0415

    session = Session(machine, json=options.json, cpu=GUEST_PLACE, signals=signals)
    return drive(session, in_guest(session, argv))


def in_guest(session: Session, argv: Sequence[str]) -> Steps:
    """Run a command of the guest's; its output as it comes, its exit code."""
    job = yield from session.program(tuple(argv))
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", EXPECTATION_FAILED)
    assert job.exit_code is not None
    return job.exit_code


def after_card_in(session: Session, nic: str) -> str:
    """What is left to do when a NIC is a new process. Our slot keeps QEMU's connection, so that the
    old device stands in the guest's PCI tree until it is removed and the bus scanned; a rescan
    alone finds nothing new. Another virtual machine has lost its connection."""
    if session.machine.own_guest:
        return (
            "  the guest's kernel still has the old card: "
            f"bottomhalf {session.on}restart {nic} removes it, rescans and enslaves"
        )
    return f"  the guest must connect to it anew: {vfio_socket(nic)} in its run directory"


def new_card(session: Session, nic: str) -> Generator[Wait, None, None]:
    """What an administrator does about a dead card: it is removed, a new one is put in, the bus is
    scanned again, and the network is told to use it."""
    from orchestrator.guest import network  # noqa: PLC0415

    machine = session.machine
    if not machine.own_guest:
        if not machine.state(nic).alive:
            machine.restart(nic)
        session.remark(after_card_in(session, nic))
        return
    yield from _shell(session, network.remove_card(machine.settings, nic))
    if not machine.state(nic).alive:
        machine.restart(nic)
    yield from _shell(session, network.add_card(machine.settings, nic))


def _shell(session: Session, script: str) -> Generator[Wait, None, None]:
    job = yield from session.program(("sh", "-c", script), GUEST_PLACE, show=False)
    if job.failed or job.exit_code:
        said = "".join(text for _, text in job.take()).strip() or job.failed
        raise BottomhalfError(
            f"the guest did not take the card: {said or f'exit code {job.exit_code}'}",
            "bottomhalf dmesg says what its kernel did",
        )


def kernel_verb(session: Session, verb: Verb, argv: Sequence[str]) -> Steps:
    """What a verb that works on a kernel means where the kernel is a real one."""
    machine = session.machine
    if not machine.own_guest:
        raise BottomhalfError(
            f"`{verb.name}` works on our kernel; that of {machine.settings.name} is its guest's",
            "say it inside: somebody else started that guest",
        )
    if verb.name not in TOOLS or session.cpu != GUEST_PLACE:
        raise BottomhalfError(
            f"`{verb.name}` works on our kernel; that of {machine.settings.name} is its guest's",
            "bottomhalf guest exec 'COMMAND', or its console: bottomhalf guest console",
        )
    return in_guest(session, (verb.name, *argv))


# ---------------------------------------------------------------- the one that runs


def _runs(options: Options) -> bool:
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415

    name = options.on or DEFAULT_NAME
    return any(machine.name == name for machine in running_machines())


def _connected(options: Options) -> Any:
    from orchestrator.machines import running  # noqa: PLC0415
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415

    names = [machine.name for machine in running_machines()]
    name = options.on or (DEFAULT_NAME if DEFAULT_NAME in names else None)
    try:
        return running.find(name)
    except BottomhalfError as error:
        if error is running.NOTHING_RUNS:
            raise BottomhalfError("no guest is running", _START) from None
        raise


def _exec_in_running(options: Options, argv: Sequence[str]) -> int:
    from orchestrator.machines import running  # noqa: PLC0415

    typed = list(argv[1:] if argv[:1] == ["--"] else argv)
    if not typed:
        raise BottomhalfError("guest exec: which command?", "bottomhalf guest exec 'COMMAND'")
    found = _connected(options)
    with running.connect(found.name) as machine:
        _is_guest(machine)
        signals: list[int] = []
        machine.catch_signals(signals, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
        # One word is a line for the shell, as ssh has it; several are a command's words.
        command = ("sh", "-c", typed[0]) if len(typed) == 1 else tuple(typed)
        return _run(options, machine, signals, command)


def _console_of_running(options: Options) -> int:
    from orchestrator.guest import console  # noqa: PLC0415
    from orchestrator.machines import running  # noqa: PLC0415

    found = _connected(options)
    with running.connect(found.name) as machine:
        _is_guest(machine)
    console.attach(found.directory)
    return OK


def _is_guest(machine: RemoteMachine) -> None:
    name = machine.settings.name
    if not machine.settings.guest:
        raise BottomhalfError(f"machine {name} is an emulated one, not a guest", _START)
    if not machine.own_guest:
        raise BottomhalfError(
            f"the guest of {name} was started by somebody else: it takes no commands of ours",
            "say it inside; one that does: bottomhalf guest -d",
        )


def _console(machine: RemoteMachine, directory: Path) -> int:
    """The console of the guest that this command started."""
    from orchestrator.guest import console  # noqa: PLC0415
    from orchestrator.machines.running import on_option  # noqa: PLC0415

    name = machine.settings.name
    sys.stderr.write("  Ctrl-] leaves the console, `poweroff` ends the guest\n")
    if console.attach(directory) == console.LEFT:
        machine.release()
        on = on_option(name, DEFAULT_NAME)
        print(f"{name} goes on: bottomhalf {on}guest console, bottomhalf {on}down ends it")
        return OK
    machine.wait(lambda: machine.lost, _LOOK_MS * 10)
    print(f"{name} is down")
    return OK
