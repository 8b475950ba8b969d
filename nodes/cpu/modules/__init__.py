"""Lab modules: small pieces of kernel code that ``insmod`` runs on the CPU it is started on.

A file of this folder registers one module::

    @module("softirq_order", params={"rounds": (1, "how often")})
    def init(cpu, params): ...

``init`` is a context in a task of that CPU (``taskset -c 1 insmod ...`` chooses it) and returns 0
or a negative errno, as module_init functions do; ``exit`` runs there at rmmod. Defaults of
parameters say their type. ``on_each_cpu(cpu, params)``, a plain function, has run on every CPU when
``init`` begins: it makes known there what may run there (INIT_WORK). A module talks by printk; what
a lab measures or checks is one line, ``NAME: key=value key=value`` (``report``).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

Values = Mapping[str, Any]
Init = Callable[["Cpu", Values], Context]
Exit = Callable[["Cpu"], Context]
OnEachCpu = Callable[["Cpu", Values], None]


class Module(NamedTuple):
    """A module that can be loaded; ``params``: name -> (default, description)."""

    name: str
    params: Mapping[str, tuple[Any, str]]
    init: Init
    exit: Exit | None
    on_each_cpu: OnEachCpu | None = None


MODULES: dict[str, Module] = {}


def module(
    name: str,
    params: Mapping[str, tuple[Any, str]] | None = None,
    exit: Exit | None = None,
    on_each_cpu: OnEachCpu | None = None,
) -> Callable[[Init], Init]:
    """Register a module by its init function."""

    def register(init: Init) -> Init:
        assert name not in MODULES
        MODULES[name] = Module(name, params or {}, init, exit, on_each_cpu)
        return init

    return register


def names() -> list[str]:
    """All modules there are, by their files."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def load_all() -> None:
    """Import every file, so that nothing is read from a disk when a module is wanted."""
    for name in names():
        importlib.import_module(f"{__name__}.{name}")


def report(cpu: Cpu, name: str, **values: object) -> None:
    """The result of a module: one line of the log that labs check."""
    printk(cpu, f"{name}: " + " ".join(f"{key}={value}" for key, value in values.items()))
