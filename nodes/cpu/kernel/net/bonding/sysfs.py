"""Writing to /sys/class/net/BOND/bonding: who checks what, and what the log says of it.

After bond_sysfs.c and bond_options.c. Behaviour ``bond_options``: *table*: 6.1 checks every option
against its row (``options``), in one order: mode, slaves, up, value; refusals are explained in one
wording and nothing is said of what worked. *each-its-own*: up to 3.10 each option has checks and
words of its own (``oldoptions``) and says what it did. What a new value does is in ``setters``, for
all eras.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOTEMPTY
from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import store
from nodes.cpu.kernel.net.bonding import oldoptions, setters
from nodes.cpu.kernel.net.bonding.bond import Bonding
from nodes.cpu.kernel.net.bonding.options import MODE_NAMES, OPTIONS, Option, parse
from nodes.cpu.kernel.net.bonding.setters import say
from nodes.cpu.kernel.net.netdevice import IFF_UP
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def bond_opt_set(cpu: Cpu, bond: Bonding, option: Option, text: str) -> Context:
    """__bond_opt_set: dependencies, the value, the setter; 0 or a negative errno."""
    error = _check_deps(bond, option)
    value: str | int | None = text
    if not error and not option.raw:
        value = parse(option, text)
        error = -EINVAL if value is None else 0
    if not error:
        assert value is not None
        error = yield from setters.SETTERS.get(option.name, setters.plain)(cpu, bond, option, value)
    if error:
        _interpret(cpu, bond, option, error, text)
    return error


def _check_deps(bond: Bonding, option: Option) -> int:
    """bond_opt_check_deps."""
    if option.modes and bond.settings.mode not in option.modes:
        return -EACCES
    if option.no_slaves and bond.slaves:
        return -ENOTEMPTY
    if option.down and bond.dev.flags & IFF_UP:
        return -EBUSY
    return 0


def _interpret(cpu: Cpu, bond: Bonding, option: Option, error: int, text: str) -> None:
    """bond_opt_error_interpret."""
    name, mode = option.name, bond.settings.mode
    value = text.split("\n", maxsplit=1)[0]
    if error == -EINVAL:
        say(cpu, bond, f"option {name}: invalid value ({value})")
        if not option.words and not option.raw:
            say(cpu, bond, f"option {name}: allowed values {option.low} - {option.high}")
    elif error == -EACCES:
        number = MODE_NAMES.index(mode)
        text = f"mode dependency failed, not supported in mode {mode}({number})"
        say(cpu, bond, f"option {name}: {text}")
    elif error == -ENOTEMPTY:
        say(cpu, bond, f"option {name}: unable to set because the bond device has slaves")
    elif error == -EBUSY and option.down and bond.dev.flags & IFF_UP:
        say(cpu, bond, f"option {name}: unable to set because the bond device is up")
    elif error == -ENODEV:
        say(cpu, bond, f"option {name}: interface {value.lstrip('+-')} does not exist!")


def bonding_store(cpu: Cpu, bond: Bonding, name: str, text: str) -> Context:
    """bonding_sysfs_store_option, under RTNL."""
    option = OPTIONS[name]
    yield from cpu.net.rtnl.lock(cpu)
    if cpu.params.bond_options == "table":
        error = yield from bond_opt_set(cpu, bond, option, text)
    else:
        error = yield from oldoptions.store_option(cpu, bond, option, text)
    cpu.net.rtnl.unlock(cpu)
    return error


def _register(name: str) -> None:
    @store(f"/sys/class/net/{{bond}}/bonding/{name}")
    def write(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
        return bonding_store(cpu, cpu.net.bonds[groups["bond"]], name, text)


for _name in OPTIONS:
    _register(_name)
