"""No input ends a node: random and mutated messages to every node, in both runtimes.

``MACHINES`` lists what is bombarded; a machine of real nodes is tested by adding it there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import pytest
import zmq

from bus.codec import decode_batch, encode_batch
from bus.links import header
from bus.messages import WIRE, Between, Shutdown
from bus.simulation import Place
from nodes.machine import CONTROL, MachineSettings
from orchestrator.machines import places as known_places
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.simulated import SimulatedMachine
from tests.bus.asking import until
from tests.bus.conftest import assert_nothing_is_left, unique_name
from tests.bus.toys import settings, toys

MESSAGES = 10_000
#: Put on the wire before the runtime is waited for: less than what may queue for an inbox.
VOLLEY = 250


class Target(NamedTuple):
    """A kind of machine to bombard; all of its nodes are."""

    name: str
    settings: Callable[[str], MachineSettings]
    places: Callable[[MachineSettings], Mapping[str, Place]]
    what: str  # a snapshot that every node answers


MACHINES = (
    Target("toys", settings, toys, "self"),
    Target("nodes", settings, known_places.places, "state"),
)
EVERY_NODE = [
    pytest.param(target, node, id=f"{target.name}-{node}")
    for target in MACHINES
    for node in ("cpu0", "apic", "eth0", "lan")
]


def random_field(rng: random.Random, kind: Any, limit: Any) -> Any:
    """A value of the right kind, mostly within its limits."""
    if isinstance(limit, Between):
        edge = [limit.low, limit.high, min(limit.high + 1, 2**64 - 1), 0, 1]
        return rng.choice([*edge, rng.randint(limit.low, limit.high)])
    length = rng.choice([0, 1, 14, 60, 64, 1514, limit.length, limit.length + 1])
    if kind is bytes:
        return rng.randbytes(length)
    if kind is str:
        return "".join(chr(rng.randrange(32, 0x2FF)) for _ in range(min(length, 200)))
    return [rng.choice(["ping", "-c", "", "\0", "x" * 300]) for _ in range(min(length, 70))]


#: Type hints of each kind of message, made once.
HINTS = {code: get_type_hints(kind, include_extras=True) for code, kind in WIRE.items()}
CODES = list(WIRE)


def random_message(rng: random.Random) -> list[Any]:
    """The code and fields of some message."""
    code = rng.choice(CODES)
    hints = HINTS[code]
    fields = []
    for name in WIRE[code]._fields:
        hint = hints[name]
        assert get_origin(hint) is Annotated
        fields.append(random_field(rng, *get_args(hint)[:2]))
    return [code, *fields]


class Raw(list[Any]):
    """A list that stands for a message in ``encode_batch``."""

    @property
    def CODE(self) -> Any:
        return self[0]

    def __iter__(self) -> Iterator[Any]:
        yield from self[1:]


def garbage(rng: random.Random) -> bytes:
    """One packet: random bytes, a batch of random messages, or such a batch mutated."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.choice([0, 1, 2, 3, 40, 2000]))
    incarnations = rng.choice([(1, 1), (1, 1), (1, 1), (0, 1), (1, 2), (2**64 - 1, 1)])
    messages = [Raw(random_message(rng)) for _ in range(rng.choice([0, 1, 1, 1, 4]))]
    data = bytearray(encode_batch(*incarnations, messages))
    if rng.random() < 0.4:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


def ends_it(data: bytes) -> bool:
    """An order to shut down is not garbage."""
    return any(type(m) is Shutdown for m in decode_batch(data).messages)


def packets(rng: random.Random) -> Iterator[bytes]:
    made = 0
    while made < MESSAGES:
        data = garbage(rng)
        if not ends_it(data):
            made += 1
            yield data


def expected(data: bytes) -> int:
    """How many messages the runtime must count as rejected."""
    return len(decode_batch(data).faults)


def log_of(machine: ProcessMachine, node: str) -> str:
    return f"{machine.state(node)}\n" + (machine.rundir.path / f"{node}.log").read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(("target", "node"), EVERY_NODE)
def test_garbage_is_counted_and_ends_no_process(target: Target, node: str) -> None:
    machine_settings = target.settings(unique_name())
    machine = ProcessMachine(machine_settings, target.places(machine_settings))
    context: zmq.Context[Any] = zmq.Context()
    try:
        socket = context.socket(zmq.PUSH)
        socket.connect(f"ipc://{machine.rundir.socket_path(node)}")
        rng = random.Random(f"garbage for {node}")
        senders = machine_settings.peers(node)
        page = machine.ram.page(node)
        rejected = 0
        for n, data in enumerate(packets(rng), 1):
            socket.send(header(machine.ram.number(rng.choice(senders))) + data)
            rejected += expected(data)
            if n % VOLLEY == 0:
                until(
                    machine,
                    lambda count=rejected: (
                        page["rejected"] >= count or not machine.state(node).alive
                    ),
                )
                assert machine.state(node).alive, log_of(machine, node)
        request = machine.ask(node, target.what)
        until(machine, lambda: request.done)
        assert request.ok, request.failed
        assert page["rejected"] == rejected
        assert page["errors"] == 0
        assert all(machine.state(name).alive for name in machine_settings.node_names)
    finally:
        context.destroy(linger=0)
        machine.close()
    assert_nothing_is_left(machine)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "node"), EVERY_NODE)
def test_garbage_ends_no_simulated_node(target: Target, node: str) -> None:
    machine_settings = target.settings("garbage")
    machine = SimulatedMachine(machine_settings, target.places(machine_settings))
    rng = random.Random(f"garbage for {node}")
    senders = (*machine_settings.peers(node), CONTROL)
    for data in packets(rng):
        sender = rng.choice(senders)
        for message in decode_batch(data).messages:
            machine.simulation.send(node, message, sender)
        machine.pump(machine.now_ns() + 10_000)
    request = machine.ask(node, target.what)
    assert machine.wait(lambda: request.done, 60_000)
    assert request.ok, request.failed
