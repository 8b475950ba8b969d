"""ethtool: ``ethtool eth0`` and ``-i -k -g -G -c -C -S -l -L -x -d -t`` of an ixgbe port; of a bond
the plain form and ``-i``.

Texts are those of three releases (behaviour ``ethtool_text``): 6 of CentOS 5, 3.8 of CentOS 7, and
6.1, which speaks netlink: it says ``n/a`` where older ones said 0, and words errors differently.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, ENODEV, EOPNOTSUPP
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import ethtool as ops
from nodes.cpu.kernel.drivers.ixgbe import selftest
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs import ethtoolregs, ethtooltext
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

UNCHANGED = 80  # exit code when nothing was asked to change
_USAGE = "ethtool: bad command line argument(s)\nFor more information run ethtool -h\n"


#: What releases without netlink say of a driver that cannot: heading, error, exit code.
_UNABLE = {
    option: row
    for options, row in (
        (("-g", "--show-ring"), ("Ring", "get device ring settings", 76)),
        (("-G", "--set-ring"), ("", "get device ring settings", 76)),
        (("-c", "--show-coalesce"), ("Coalesce", "get device coalesce settings", 82)),
        (("-C", "--coalesce"), ("", "get device coalesce settings", 82)),
        (("-l", "--show-channels"), ("Channel", "get device channel parameters\n", 1)),
        (("-L", "--set-channels"), ("", "get device channel parameters", 1)),
        (("-d", "--register-dump"), ("", "get register dump", 74)),
        (("-t", "--test"), ("", "test", 74)),
    )
    for option in options
}


class _Error(Exception):
    """What goes to stderr, and the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class _Call:
    """One command line: where it runs, on what, and the words behind the device."""

    def __init__(
        self, cpu: Cpu, process: Process, dev: NetDevice, option: str, words: list[str]
    ) -> None:
        self.cpu = cpu
        self.process = process
        self.dev = dev
        self.option = option  # as it was typed
        self.words = words
        self.name = dev.name
        self.netlink = cpu.params.ethtool_text == "6.1"

    @property
    def adapter(self) -> Adapter:
        adapter = self.dev.adapter
        if adapter is None:
            raise self._unable()
        return adapter

    def _unable(self) -> _Error:
        """The driver of the device (a bond's) has no such operation."""
        if self.netlink or self.option not in _UNABLE:
            return self.error("", EOPNOTSUPP)
        heading, text, code = _UNABLE[self.option]
        if heading:
            self.say(f"{heading} parameters for {self.name}:\n")
        return _Error(f"Cannot {text}: {strerror(EOPNOTSUPP)}\n", code)

    def say(self, text: str) -> None:
        self.process.write(text)

    def error(self, doing: str, number: int) -> _Error:
        """How this release words an errno."""
        if self.netlink or not doing:
            return _Error(f"netlink error: {strerror(number)}\n", 1)
        return _Error(f"Cannot {doing}: {strerror(number)}\n", 1)

    def changes(
        self, allowed: tuple[str, ...], known: tuple[str, ...] = (), *, ignored: bool = False
    ) -> dict[str, int]:
        """``rx 64 tx 128`` -> values by word; ``known`` ones are understood and not supported,
        or taken for what they are and then ignored."""
        found: dict[str, int] = {}
        rest = list(self.words)
        while rest:
            word = rest.pop(0)
            if word not in allowed + known:
                raise self._slip(f"unknown parameter '{word}'")
            if not rest:
                raise self._slip(f"no value for parameter '{word}'")
            value = rest.pop(0)
            if word in known and not ignored:
                raise self.error("set device parameters", EOPNOTSUPP)
            if word in _SWITCHES and value in _ON_OFF:
                found[word] = _ON_OFF.index(value)
                continue
            if (
                word in _SWITCHES
                or not value.isdecimal()
                or len(value) > 10
                or int(value) > 0xFFFF_FFFF
            ):
                raise self._slip(f"invalid value '{value}' for parameter '{word}'")
            found[word] = int(value)
        return found

    def _slip(self, what: str) -> _Error:
        """A slip behind the device's name; releases without netlink do not say which."""
        return _Error(f"ethtool ({self.option}): {what}\n" if self.netlink else _USAGE)


def _settings(call: _Call) -> Context:
    call.say(ethtooltext.settings(call.cpu, call.dev))
    yield


def _drvinfo(call: _Call) -> Context:
    if call.dev is call.cpu.net.loopback_dev:  # nobody says
        raise _Error(f"Cannot get driver information: {strerror(EOPNOTSUPP)}\n", 71)
    call.say(ethtooltext.drvinfo(call.cpu, call.dev))
    yield


def _features(call: _Call) -> Context:
    call.say(ethtooltext.features(call.cpu, call.adapter.netdev))
    yield


def _show_ring(call: _Call) -> Context:
    call.say(ethtooltext.ring(call.name, ops.get_ringparam(call.adapter), netlink=call.netlink))
    yield


def _set_ring(call: _Call) -> Context:
    wanted = call.changes(("rx", "tx"), ("rx-mini", "rx-jumbo"))
    largest, rx, tx = ops.get_ringparam(call.adapter)
    new = wanted.get("rx", rx), wanted.get("tx", tx)
    if new == (rx, tx):
        _nothing(call, "ring")
        return 0 if call.netlink else UNCHANGED
    if max(new) > largest:
        if call.netlink:
            text = "netlink error: requested ring size exceeds maximum"
            offset = 28 if new[0] > largest else 36 if "rx" in wanted else 28
            raise _Error(f"{text} (offset {offset})\nnetlink error: {strerror(EINVAL)}\n")
        raise call.error("set device ring parameters", EINVAL)
    return _result(
        call,
        "set device ring parameters",
        (yield from ops.set_ringparam(call.cpu, call.adapter, *new)),
    )


def _nothing(call: _Call, what: str) -> None:
    if not call.netlink:
        text = f"no {what} parameters changed, aborting\n"
        call.process.write(text, STDERR)


def _result(call: _Call, doing: str, error: int) -> int:
    if error:
        raise call.error(doing, -error)
    return 0


def _show_coalesce(call: _Call) -> Context:
    usecs = ops.get_coalesce(call.adapter)
    call.say(ethtooltext.coalesce(call.name, usecs, netlink=call.netlink))
    yield


_SWITCHES, _ON_OFF = ("adaptive-rx", "adaptive-tx"), ("off", "on")
_COALESCE_KNOWN = (
    "adaptive-rx", "adaptive-tx", "sample-interval", "stats-block-usecs", "pkt-rate-low",
    "pkt-rate-high", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-frames", "tx-usecs-irq",
    "tx-frames-irq", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low",
    "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high",
)  # fmt: skip


def _set_coalesce(call: _Call) -> Context:
    """ixgbe's own adaptive moderation is ``rx-usecs 1``; all else is not for it."""
    ignored = call.cpu.params.coalesce_params == "ignored"
    wanted = call.changes(("rx-usecs", "tx-usecs"), _COALESCE_KNOWN, ignored=ignored)
    usecs = ops.get_coalesce(call.adapter)
    new = wanted.get("rx-usecs", usecs), wanted.get("tx-usecs", 0)
    if new == (usecs, 0) and not any(wanted.get(word) for word in _COALESCE_KNOWN):
        _nothing(call, "coalesce")
        return 0 if call.netlink else UNCHANGED
    error = yield from ops.set_coalesce(call.cpu, call.adapter, *new)
    return _result(call, "set device coalesce parameters", error)


def _show_channels(call: _Call) -> Context:
    combined = len(call.adapter.rings)
    call.say(ethtooltext.channels(call.name, combined, netlink=call.netlink))
    yield


def _set_channels(call: _Call) -> Context:
    wanted = call.changes(("combined", "other"), ("rx", "tx"))
    combined = wanted.get("combined", len(call.adapter.rings))
    if wanted.get("other", ops.NON_Q_VECTORS) != ops.NON_Q_VECTORS:
        raise call.error("set device channel parameters", EINVAL)
    if combined == len(call.adapter.rings):
        if not call.netlink:
            text = "combined unmodified, ignoring\nno channel parameters changed.\ncurrent values: "
            text += f"rx 0 tx 0 other 1 combined {combined}\n"
            call.process.write(text, STDERR)
        return 0 if call.netlink else 1
    if combined > ops.MAX_FDIR_INDICES and call.netlink:
        text = "netlink error: requested channel count exceeds maximum (offset 36)\n"
        raise _Error(f"{text}netlink error: {strerror(EINVAL)}\n")
    error = yield from ops.set_channels(call.cpu, call.adapter, combined)
    return _result(call, "set device channel parameters", error)


def _statistics(call: _Call) -> Context:
    if call.dev.adapter is None:
        raise _Error("no stats available\n", 94)
    rows = yield from ops.get_ethtool_stats(call.cpu, call.adapter)
    call.say("NIC statistics:\n" + "".join(f"     {name}: {value}\n" for name, value in rows))


def _rxfh(call: _Call) -> Context:
    if call.cpu.params.ethtool_text == "3.8":  # the driver of that age cannot say
        raise _Error(f"Cannot get RX flow hash indirection table: {strerror(EOPNOTSUPP)}\n", 102)
    table, key = yield from ops.get_rxfh(call.cpu, call.adapter)
    call.say(ethtooltext.rxfh(call.name, len(call.adapter.rings), table, key))


def _registers(call: _Call) -> Context:
    addresses = [row.address for row in ethtoolregs.ROWS]
    places = [ethtoolregs.READ_AT.get(address, address) for address in addresses]
    values = yield from ops.get_regs(call.cpu, call.adapter, places)
    call.say(ethtoolregs.dump(dict(zip(addresses, values, strict=True))))


def _test(call: _Call) -> Context:
    kind = call.words[0] if call.words else "offline"
    if kind not in ("online", "offline", "external_lb") or len(call.words) > 1:
        raise _Error(_USAGE)
    data = yield from selftest.self_test(call.cpu, call.adapter, kind != "online")
    passed = not any(data)
    text = f"The test result is {'PASS' if passed else 'FAIL'}\nThe test extra info:\n"
    rows = zip(selftest.NAMES, data, strict=True)
    call.say(text + "".join(f"{name}\t {value}\n" for name, value in rows) + "\n")
    return 0 if passed else 1


#: Options: short, long, what to do, in releases older than 3.8 too.
_OPTIONS: tuple[tuple[str, str, Callable[[_Call], Context], bool], ...] = (
    ("-i", "--driver", _drvinfo, True),
    ("-k", "--show-features", _features, True),
    ("-g", "--show-ring", _show_ring, True),
    ("-G", "--set-ring", _set_ring, True),
    ("-c", "--show-coalesce", _show_coalesce, True),
    ("-C", "--coalesce", _set_coalesce, True),
    ("-S", "--statistics", _statistics, True),
    ("-l", "--show-channels", _show_channels, False),
    ("-L", "--set-channels", _set_channels, False),
    ("-x", "--show-rxfh", _rxfh, False),
    ("-d", "--register-dump", _registers, True),
    ("-t", "--test", _test, True),
)


@program("ethtool")
def ethtool(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of ethtool."""
    if not cpu.boot:
        process.write("ethtool: only the boot CPU talks to the driver\n", STDERR)
        return 2
    yield USER
    try:
        action, words = _parse(cpu, list(argv[1:]))
        dev = cpu.net.device(words[0])
        netlink = cpu.params.ethtool_text == "6.1"
        if dev is None:
            raise _no_device(words[0], netlink=netlink, plain=action is _settings)
        option = argv[1] if action is not _settings else ""
        call = _Call(cpu, process, dev, option, words[1:])
        yield from cpu.net.rtnl.lock(cpu)
        try:
            code = yield from action(call)
        finally:
            cpu.net.rtnl.unlock(cpu)
        return code or 0
    except _Error as error:
        process.write(error.text, STDERR)
        return error.code


def _parse(cpu: Cpu, words: list[str]) -> tuple[Callable[[_Call], Context], list[str]]:
    """What to do, and the words from the device's name on."""
    action: Callable[[_Call], Context] = _settings
    if words and words[0].startswith("-"):
        option = words.pop(0)
        old = cpu.params.ethtool_text == "6"
        for short, long, function, always in _OPTIONS:
            if option in (short, long) and (always or not old):
                action = function
                break
        else:
            raise _Error(_USAGE)
    if not words:
        raise _Error(_USAGE)
    return action, words


def _no_device(name: str, *, netlink: bool, plain: bool) -> _Error:
    if netlink:
        return _Error(f"netlink error: no device matches name (offset 24)\nnetlink error: "
                      f"{strerror(ENODEV)}\n", 1)  # fmt: skip
    if plain:
        text = "".join(
            f"Cannot get {what}: {strerror(ENODEV)}\n"
            for what in ("device settings", "wake-on-lan settings", "message level", "link status")
        )
        return _Error(f"{text}No data available\n", 75)
    return _Error(f"Cannot get driver information: {strerror(ENODEV)}\n", 71)
