"""Loading and removing modules, after kernel/module.c. The modules: ``nodes.cpu.modules``.

The list of modules is the boot CPU's: it decides who may use a name and publishes the list. Another
CPU sends it a record and waits until its own replica shows the outcome, so whoever returns from
insmod finds the module listed everywhere it matters. A module belongs to the CPU that loaded it:
its init and exit functions run there, in tasks. Linux's module is in memory that all CPUs share;
here one whose works run elsewhere too makes them known by ``Module.on_each_cpu``: every CPU runs it
once, when it learns of the module, and all have done so before the init function begins. The values
of the parameters travel with the list for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from errno import EBUSY, EEXIST, EINVAL, ENOENT, ETIMEDOUT
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, KERN_WARNING, printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.kernel.timer import nanosleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.modules import Module

SET_MODULE, DELETE_MODULE = 70, 71
LOADING, LIVE, UNLOADING = "Loading", "Live", "Unloading"
#: What lsmod shows for every one of them: these are no object files.
MODULE_BYTES = 16384
POLL_NS, TIMEOUT_NS = 100_000, 5_000_000_000
#: Who has not answered for so long is rather dead: one looks less often.
PATIENCE_NS, SLOW_POLL_NS = 20_000_000, 2_000_000


class Loaded(NamedTuple):
    """A module that is loaded, and by whom: the CPU that runs its functions, the task's pid."""

    name: str
    cpu: int
    pid: int
    state: str
    values: Mapping[str, Any]
    size: int = MODULE_BYTES


#: What the list says of a module: CPU, pid, state, values of its parameters.
Entry = tuple[int, int, str, Mapping[str, Any]]


@replica("module")
def apply_module(cpu: Cpu, name: str, value: Entry | None) -> None:
    """A module was loaded, changed its state, or (None) is gone."""
    from nodes.cpu.modules import MODULES  # noqa: PLC0415  (modules import the kernel)

    if value is None:
        cpu.modules.pop(name, None)
        return
    before, loaded = cpu.modules.get(name), Loaded(name, *value)
    cpu.modules[name] = loaded
    module = MODULES.get(name)  # None: one that this CPU has no code of
    on_each_cpu = None if module is None else module.on_each_cpu
    new = before is None or (before.cpu, before.pid) != (loaded.cpu, loaded.pid)
    if on_each_cpu is not None and new and loaded.state != UNLOADING:
        on_each_cpu(cpu, loaded.values)
        if loaded.state == LOADING:  # else this CPU was offline then, and catches up
            cpu.ram.atomics.add(words.MODULE_TOLD, 1)


def _set(cpu: Cpu, name: str, value: Entry | None) -> Context:
    """On the boot CPU: change the list, unless the name is somebody else's."""
    loaded = cpu.modules.get(name)
    if loaded is None or value is None or (loaded.cpu, loaded.pid) == value[:2]:
        yield from publish(cpu, "module", name, value)


def _set_and_wait(cpu: Cpu, name: str, value: Entry | None) -> Context:
    """Change the list wherever it is kept; 0, -EEXIST or -ETIMEDOUT."""
    if cpu.boot:
        yield from _set(cpu, name, value)
    else:
        yield from _send(cpu, 0, SET_MODULE, msgpack.packb((name, value)))
    wanted = None if value is None else Loaded(name, *value)

    def settled() -> bool:
        loaded = cpu.modules.get(name)
        theirs = value is not None and loaded is not None and loaded[1:3] != value[:2]
        return loaded == wanted or theirs

    if not (yield from _wait(cpu, settled)):
        return -ETIMEDOUT
    return 0 if cpu.modules.get(name) == wanted else -EEXIST


def _wait(cpu: Cpu, done: Callable[[], bool]) -> Context:
    """Sleep until ``done()``; False if it takes too long (the other CPU may be dead)."""
    begin = cpu.now()
    while not done():
        waited = cpu.now() - begin
        if waited >= TIMEOUT_NS:
            return False
        yield from nanosleep(cpu, POLL_NS if waited < PATIENCE_NS else SLOW_POLL_NS)
    return True


def _send(cpu: Cpu, target: int, function: int, data: bytes) -> Context:
    while (buffer := cpu.handover.put(data)) is None:
        yield
    yield from call_function_single(cpu, target, [function, buffer, len(data)])


@remote_function(SET_MODULE)
def _set_module(cpu: Cpu, source: int, record: list[int]) -> None:
    data = cpu.ram.handover(source).take(record[1], record[2])
    name, value = msgpack.unpackb(data, use_list=False)
    kthread_run(cpu, "modules", _set(cpu, name, value))


def _list_everywhere(cpu: Cpu, module: Module, entry: Entry) -> Context:
    """List a module; if it has something to do on each CPU, all have done it when this returns."""
    if module.on_each_cpu is None:
        error: int = yield from _set_and_wait(cpu, module.name, entry)
        return error
    atomics = cpu.ram.atomics
    while atomics.test_and_set(words.MODULE_MUTEX):
        yield from nanosleep(cpu, POLL_NS)
    atomics.store(words.MODULE_TOLD, 0)
    error = yield from _set_and_wait(cpu, module.name, entry)
    if not error:
        everybody = len(cpu.online_cpus)
        if not (yield from _wait(cpu, lambda: atomics.load(words.MODULE_TOLD) >= everybody)):
            yield from _set_and_wait(cpu, module.name, None)
            error = -ETIMEDOUT
    atomics.release(words.MODULE_MUTEX)
    return error


# ---------------------------------------------------------------- load and remove


def load_module(cpu: Cpu, module: Module, args: tuple[str, ...]) -> Context:
    """The module's init function, here; 0 or a negative errno."""
    if module.name in cpu.modules:
        return -EEXIST
    values = parse_args(cpu, module, args)
    if isinstance(values, int):
        return values
    me = (cpu.number, cpu.current.pid)
    error: int = yield from _list_everywhere(cpu, module, (*me, LOADING, values))
    if error:
        return error
    try:
        failed: int = yield from module.init(cpu, values)
    except OSError as error_of_init:  # an irq or a vector that it wants is taken
        failed = -(error_of_init.errno or EINVAL)
    error = yield from _set_and_wait(cpu, module.name, None if failed else (*me, LIVE, values))
    return failed or error


def delete_module(cpu: Cpu, module: Module) -> Context:
    """The module's exit function, where it was loaded; 0 or a negative errno."""
    loaded = cpu.modules.get(module.name)
    if loaded is None:
        return -ENOENT
    if loaded.state != LIVE:
        return -EBUSY
    if loaded.cpu == cpu.number:
        error: int = yield from _remove(cpu, module)
        return error
    if loaded.cpu not in cpu.online_cpus:
        return -EBUSY  # its code is there, and nothing runs there
    yield from _send(cpu, loaded.cpu, DELETE_MODULE, module.name.encode())
    gone = yield from _wait(cpu, lambda: module.name not in cpu.modules)
    return 0 if gone else -ETIMEDOUT


def _remove(cpu: Cpu, module: Module) -> Context:
    loaded = cpu.modules[module.name]
    gone = (loaded.cpu, loaded.pid, UNLOADING, loaded.values)
    yield from _set_and_wait(cpu, module.name, gone)
    if module.exit is not None:
        yield from module.exit(cpu)
    error: int = yield from _set_and_wait(cpu, module.name, None)
    return error


@remote_function(DELETE_MODULE)
def _delete_module(cpu: Cpu, source: int, record: list[int]) -> None:
    from nodes.cpu.modules import MODULES  # noqa: PLC0415  (modules import the kernel)

    name = cpu.ram.handover(source).take(record[1], record[2]).decode()
    loaded = cpu.modules.get(name)
    if loaded is not None and loaded.state == LIVE:
        kthread_run(cpu, "rmmod", _remove(cpu, MODULES[name]))


# ---------------------------------------------------------------- parameters


def parse_args(cpu: Cpu, module: Module, args: tuple[str, ...]) -> dict[str, Any] | int:
    """The values of all parameters, or a negative errno."""
    values = {name: default for name, (default, _) in module.params.items()}
    for word in args:
        name, equals, text = word.partition("=")
        if name not in values:
            if cpu.params.unknown_module_parameter == "refused":
                printk(cpu, f"{module.name}: Unknown parameter `{name}'", KERN_ERR)
                return -ENOENT
            printk(cpu, f"{module.name}: unknown parameter '{name}' ignored", KERN_WARNING)
            continue
        value = _value(values[name], text if equals else None)
        if value is None:
            wrong = f"`{text}' invalid for parameter `{name}'"
            printk(cpu, f"{module.name}: {wrong}", KERN_ERR)
            return -EINVAL
        values[name] = value
    return values


def _value(default: Any, text: str | None) -> Any:
    """``text`` as the type of the default; a flag may stand alone; None: it does not fit."""
    if isinstance(default, bool):
        flags = {None: True, "y": True, "Y": True, "1": True, "n": False, "N": False, "0": False}
        return flags.get(text)
    if text is None or isinstance(default, str):
        return text
    try:
        return int(text, 0)
    except ValueError:
        return None
