"""``insmod NAME [KEY=VALUE...]``, ``rmmod NAME`` and ``modinfo NAME``, with kmod's texts.

insmod runs the module's init function in its own task, on the CPU it was started on."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.module import delete_module, load_module
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.modules import MODULES, load_all
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

load_all()

#: kmod's own words for what init_module(2) returns.
_MOD_STRERROR = {ENOENT: "Unknown symbol in module", EINVAL: "Invalid parameters"}


def _name(word: str) -> str:
    """A module's name: with or without its path and ``.ko``; - and _ are the same."""
    return word.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_")


def _fail(process: Process, tool: str, text: str) -> int:
    process.write(f"{tool}: ERROR: {text}\n", STDERR)
    return 1


@program("insmod")
def insmod(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    if len(argv) < 2:
        return _fail(process, "insmod", "missing filename.")
    module = MODULES.get(_name(argv[1]))
    if module is None:
        return _fail(process, "insmod", f"could not load module {argv[1]}: {strerror(ENOENT)}")
    error: int = yield from load_module(cpu, module, argv[2:])
    if error:
        why = _MOD_STRERROR.get(-error) or strerror(error)
        return _fail(process, "insmod", f"could not insert module {argv[1]}: {why}")
    return 0


@program("rmmod")
def rmmod(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    if len(argv) < 2:
        return _fail(process, "rmmod", "missing module name.")
    for word in argv[1:]:
        name = _name(word)
        if name not in cpu.modules:
            return _fail(process, "rmmod", f"Module {word} is not currently loaded")
        error: int = yield from delete_module(cpu, MODULES[name])
        if error:
            return _fail(process, "rmmod", f"could not remove module {word}: {strerror(error)}")
    return 0


@program("modinfo")
def modinfo(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """Name, description and parameters."""
    if len(argv) < 2:
        return _fail(process, "modinfo", "missing module or filename.")
    for word in argv[1:]:
        module = MODULES.get(_name(word))
        if module is None:
            return _fail(process, "modinfo", f"Module {word} not found.")
        rows = [
            ("name:", module.name),
            ("description:", (module.init.__doc__ or "").split("\n")[0]),
        ]
        for name, (default, text) in module.params.items():
            kind = "charp" if isinstance(default, str) else type(default).__name__
            rows.append(("parm:", f"{name}:{text} ({kind})"))
        process.write("".join(f"{key:<16}{value}\n" for key, value in rows))
        yield
    return 0
