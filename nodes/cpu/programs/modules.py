"""``insmod NAME [KEY=VALUE...]``, ``rmmod NAME`` and ``modinfo NAME``, with kmod's texts.

insmod runs the module's init function in its own task, on the CPU it was started on. rmmod runs
the exit function where the module was loaded: on another CPU it sends a record there and waits
until the module is gone.
"""

from __future__ import annotations

from errno import EEXIST, EINVAL, ENOENT
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, KERN_WARNING, printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.tables import publish
from nodes.cpu.kernel.timer import nanosleep
from nodes.cpu.modules import LIVE, LOADING, MODULES, UNLOADING, Module, load_all
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

load_all()

DELETE_MODULE = 40
POLL_NS, TIMEOUT_NS = 1_000_000, 5_000_000_000
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
        why = _MOD_STRERROR.get(-error, strerror(error))
        return _fail(process, "insmod", f"could not insert module {argv[1]}: {why}")
    return 0


def load_module(cpu: Cpu, module: Module, words: tuple[str, ...]) -> Context:
    """load_module and do_init_module: 0 or a negative errno."""
    if module.name in cpu.modules:
        return -EEXIST
    values = _parse_args(cpu, module, words)
    if isinstance(values, int):
        return values
    yield from publish(cpu, "module", module.name, (cpu.number, LOADING))
    error: int = yield from module.init(cpu, values)
    yield from publish(cpu, "module", module.name, None if error else (cpu.number, LIVE))
    return error


def _parse_args(cpu: Cpu, module: Module, words: tuple[str, ...]) -> dict[str, Any] | int:
    """parse_args: the values of all parameters, or a negative errno."""
    values = {name: default for name, (default, _) in module.params.items()}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in values:
            if cpu.params.unknown_module_parameter == "refused":
                printk(cpu, f"{module.name}: Unknown parameter `{name}'", KERN_ERR)
                return -ENOENT
            printk(cpu, f"{module.name}: unknown parameter '{name}' ignored", KERN_WARNING)
            continue
        value = _value(values[name], text if equals else None)
        if value is None:
            quoted = f"`{text}' invalid for parameter `{name}'"
            printk(cpu, f"{module.name}: {quoted}", KERN_ERR)
            return -EINVAL
        values[name] = value
    return values


def _value(default: Any, text: str | None) -> Any:
    """``text`` as the type of the default; a flag may stand alone; None: it does not fit."""
    if isinstance(default, bool):
        words = {None: True, "y": True, "Y": True, "1": True, "n": False, "N": False, "0": False}
        return words.get(text)
    if text is None or isinstance(default, str):
        return text
    try:
        return int(text, 0)
    except ValueError:
        return None


@program("rmmod")
def rmmod(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    if len(argv) < 2:
        return _fail(process, "rmmod", "missing module name.")
    for word in argv[1:]:
        name = _name(word)
        loaded = cpu.modules.get(name)
        if loaded is None:
            return _fail(process, "rmmod", f"Module {word} is not currently loaded")
        if loaded.state != LIVE:
            return _fail(
                process, "rmmod", f"could not remove module {word}: Device or resource busy"
            )
        if loaded.cpu == cpu.number:
            yield from delete_module(cpu, name)
            continue
        data = name.encode()
        while (buffer := cpu.handover.put(data)) is None:
            yield
        yield from call_function_single(cpu, loaded.cpu, [DELETE_MODULE, buffer, len(data)])
        give_up = cpu.now() + TIMEOUT_NS
        while name in cpu.modules:
            if cpu.now() >= give_up or process.task.signals:
                why = f"cpu{loaded.cpu} does not answer"
                return _fail(process, "rmmod", f"could not remove module {word}: {why}")
            yield from nanosleep(cpu, POLL_NS)
    return 0


def delete_module(cpu: Cpu, name: str) -> Context:
    """The exit function, then the module is gone."""
    yield from publish(cpu, "module", name, (cpu.number, UNLOADING))
    module = MODULES.get(name)
    if module is not None and module.exit is not None:
        yield from module.exit(cpu)
    yield from publish(cpu, "module", name, None)


@remote_function(DELETE_MODULE)
def _delete_module(cpu: Cpu, source: int, record: list[int]) -> None:
    name = cpu.ram.handover(source).take(record[1], record[2]).decode()
    if name in cpu.modules:
        kthread_run(cpu, "rmmod", delete_module(cpu, name))


@program("modinfo")
def modinfo(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """Name, description and parameters."""
    for word in argv[1:]:
        module = MODULES.get(_name(word))
        if module is None:
            process.write(f"modinfo: ERROR: Module {word} not found.\n", STDERR)
            return 1
        doc = (module.init.__doc__ or "").split("\n")[0]
        lines = [("name:", module.name), ("description:", doc)]
        for name, (default, text) in module.params.items():
            kind = "charp" if isinstance(default, str) else type(default).__name__
            lines.append(("parm:", f"{name}:{text} ({kind})"))
        process.write("".join(f"{key:<16}{value}\n" for key, value in lines))
        yield
    return 0
