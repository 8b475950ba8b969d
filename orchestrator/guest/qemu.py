"""QEMU's command line for a guest that our NICs are plugged into.

A q35 board whose root ports sit where those of the emulated machine do (device 1Ch on bus 0), so
that NICs have the same PCI names: 0000:01:00.0 is eth0. The guest's memory is a memfd that QEMU
shares, because the NICs map it; each NIC is a ``vfio-user-pci`` on whose socket its process
listens. Beside that: a serial line as console, a channel for commands; no disk, no other NIC, no
display.

Left out: a virtual IOMMU, NUMA, UEFI. QEMU's own hot-plug: QEMU 11.1 ends by an assertion when a
``vfio-user-pci`` with MSI-X is unplugged, so a slot keeps its device, and what is behind it changes
(``slots``).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nodes.machine import PORT_DEVICE, NicSettings
from orchestrator.errors import BottomhalfError
from orchestrator.guest.fetch import DEVICE, Qemu

#: Files in the run directory.
CONSOLE, CONSOLE_LOG, QEMU_LOG, GDB, INITRD = "console", "console.log", "qemu.log", "gdb", "initrd"
ACCELERATORS = ("auto", "tcg", "kvm")
MEMORY_MIB = 512
COMMANDS = "org.bottomhalf.commands"
#: ``rdinit`` needs no name: /init is the first that the kernel tries.
KERNEL_LINE = "console=ttyS0 net.ifnames=0 panic=-1 oops=panic"

_KVM = "/dev/kvm"
_KVM_GET_API_VERSION = 0xAE00


class Descriptors(NamedTuple):
    """What QEMU inherits: our channel's other end, and a socket where readers of the console
    connect (ours from the beginning, so that nobody comes too early)."""

    commands: int
    console: int


def slot_socket(nic: str) -> str:
    """Where QEMU finds the slot of a NIC; the NIC's own socket is behind it."""
    return f"{nic}.slot"


class GuestPlan(NamedTuple):
    """How the guest of a machine is started."""

    qemu: Qemu
    kernel: Path
    initrd: bytes
    release: str  # of the kernel that the modules are for
    channel: bool = True  # its modules have virtio's console: commands come by it
    smp: int = 2
    accel: str = "tcg"
    gdb: bool = False  # wait for a debugger before the first instruction
    append: str = ""  # more words for the kernel


def accelerator(wish: str) -> str:
    """``kvm`` or ``tcg``. A /dev/kvm on a processor without the instructions for it (a software
    KVM inside a virtual machine) starts guests and never runs them."""
    usable, why = _kvm()
    if wish == "kvm" and not usable:
        raise BottomhalfError(f"guest --accel kvm: {why}", "--accel tcg runs everywhere, slower")
    return "kvm" if usable and wish != "tcg" else "tcg"


def _kvm() -> tuple[bool, str]:
    try:
        fd = os.open(_KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return False, f"{_KVM}: {error.strerror}"
    try:
        if fcntl.ioctl(fd, _KVM_GET_API_VERSION) != 12:
            return False, f"{_KVM} speaks another version"
    except OSError as error:
        return False, f"{_KVM}: {error.strerror}"
    finally:
        os.close(fd)
    flags = Path("/proc/cpuinfo").read_text(errors="replace").split()
    if "vmx" not in flags and "svm" not in flags:
        return False, f"{_KVM} is there, but the processor has neither vmx nor svm"
    return True, ""


def command(plan: GuestPlan, nics: Sequence[NicSettings], fds: Descriptors) -> list[str]:
    """The whole command; file names are those in the run directory, QEMU's working directory."""
    kernel_line = f"{KERNEL_LINE} {plan.append}".strip()
    words = [
        *plan.qemu.command,
        "-name", "guest,process=bh:guest",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", f"q35,accel={plan.accel},memory-backend=ram,usb=off",
        "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,share=on",
        "-m", str(MEMORY_MIB),
        "-smp", str(plan.smp),
        "-cpu", "host" if plan.accel == "kvm" else "qemu64",
        "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-kernel", str(plan.kernel),
        "-initrd", INITRD,
        "-append", kernel_line,
        "-chardev", f"socket,id=console,fd={fds.console},server=on,wait=off,logfile={CONSOLE_LOG}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=commands,fd={fds.commands}",
        "-monitor", "none",
    ]  # fmt: skip
    if plan.channel:
        words += ["-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=3"]
        words += ["-device", f"virtserialport,bus=serial.0,chardev=commands,name={COMMANDS}"]
    else:
        words += ["-serial", "chardev:commands"]
    if plan.gdb:
        words += ["-S", "-chardev", f"socket,id=gdb,path={GDB},server=on,wait=off"]
        words += ["-gdb", "chardev:gdb"]
    for nic in nics:
        words += ["-device", root_port(nic)]
    for nic in nics:
        words += ["-device", json.dumps(device(nic))]
    return words


def root_port(nic: NicSettings) -> str:
    """The slot of a NIC: function N of device 1Ch, bus N + 1 behind it."""
    return (
        f"pcie-root-port,id=rp{nic.slot},bus=pcie.0,addr={PORT_DEVICE:x}.{nic.slot},"
        f"multifunction=on,chassis={nic.slot + 1},slot={nic.slot + 1},port={nic.slot}"
    )


def device(nic: NicSettings) -> dict[str, object]:
    """Arguments of ``-device`` for a NIC's process, behind its slot."""
    return {
        "driver": DEVICE,
        "id": nic.name,
        "bus": f"rp{nic.slot}",
        "socket": {"type": "unix", "path": slot_socket(nic.name)},
    }
