"""A machine that is only RAM: pages filled by hand, a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

from bus.ram import Page, Ram
from nodes.apic.page import LAST_ROWS
from nodes.cpu.kernel.timer_shared import PENDING
from nodes.cpu.kernel.words import TIMER
from nodes.cpu.page import WQ_BUSY_WORDS, WQ_DELAYED_WORDS, WQ_NAME_WORDS, WQ_WORK_WORDS
from nodes.lan.page import GATEWAY_PORT
from nodes.machine import BondSettings, GatewaySettings, MachineSettings, NicSettings
from orchestrator.dashboards.model import KIND_SCHEMAS, MachineView, kind_of
from orchestrator.machines.machine import NodeState

MS = 1_000_000
SECOND = 1_000_000_000
START = 5 * SECOND
REGISTERED, IFF_UP, CARRIER, SLAVE = 1, 2, 4, 8


def settings(cpus: int = 2, nics: int = 2, era: str = "6.1") -> MachineSettings:
    names = tuple(f"eth{n}" for n in range(nics))
    return MachineSettings(
        name="m1",
        era=era,
        cpus=cpus,
        nics=tuple(NicSettings(name, n, bytes([2, 0, 0, 0, 1, n])) for n, name in enumerate(names)),
        bond=BondSettings(slaves=names),
        gateway=GatewaySettings(),
    )


class Bench:
    """Fill pages, move the clock, look."""

    def __init__(self, cpus: int = 2, nics: int = 2, era: str = "6.1", ram: Ram | None = None):
        self.settings = settings(cpus, nics, era)
        self.ram = ram or Ram.anonymous(self.settings.layout())
        self.now = START
        self.ram.boot_ns = START - 2 * SECOND
        self.states = {}
        for number, name in enumerate(self.settings.node_names):
            self.states[name] = NodeState(
                name, 41200 + number, 1, True, False, False, None, None, START - 2 * SECOND
            )
            self.ram.set_incarnation(name, 1)
            self.set(name, incarnation=1, state=2)
        for cpu in self.settings.cpu_names:
            self.set(cpu, online=1, irq_enabled=1)
        self.view = MachineView(self.ram, self.settings, lambda: self.states, lambda: self.now)

    def page(self, name: str) -> Page:
        return self.ram.page(name, KIND_SCHEMAS[kind_of(self.settings, name)])

    def set(self, name: str, **fields: int | str | dict[int, int]) -> None:
        """Words of a page: a number, a text, or single words of a field by their index."""
        page = self.page(name)
        for field, value in fields.items():
            if isinstance(value, str):
                page.set_text(field, value)
            elif isinstance(value, dict):
                for which, word in value.items():
                    page.words[page.schema.index(field) + which] = word
            else:
                page[field] = value

    def add(self, name: str, field: str, amount: int, which: int = 0) -> None:
        page = self.page(name)
        page.words[page.schema.index(field) + which] += amount

    def advance(self, ms: float) -> None:
        """Move the clock and look."""
        self.now += int(ms * MS)
        self.view.sample(force=True)

    def look(self) -> MachineView:
        self.view.sample(force=True)
        return self.view

    def state(self, name: str, **changes: Any) -> None:
        self.states[name] = self.states[name]._replace(**changes)

    def kill(self, name: str, signal: int = 9) -> None:
        self.state(name, alive=False, signal=signal, since_ns=self.now)

    # -- ready-made situations

    def network(self, active: int = 0) -> None:
        """Cables in, links up, bond0 with every NIC enslaved."""
        nics = range(len(self.settings.nics))
        every = dict.fromkeys(nics, REGISTERED | IFF_UP | CARRIER | SLAVE)
        self.set(
            "cpu0",
            bond_present=1,
            bond_mode=1,
            bond_miimon_ms=100,
            bond_active=active + 1,
            bond_next_mii_ns=self.now + 29 * MS,
            bond_slave_link=dict.fromkeys(nics, 1),
            nic_flags=every,
        )
        for nic in self.settings.nic_names:
            self.set(
                nic, link_up=1, light=1, laser=1, drv_load=1, rxen=1, txen=1, pci_command=6,
                msix_enabled=1,
            )  # fmt: skip
        self.plug(*self.settings.nic_names)

    def plug(self, *nics: str, inserted: bool = True) -> None:
        """Cables into the switch, with the light that follows; the gateway's is always in."""
        ports = {self.settings.nic_names.index(nic): int(inserted) for nic in nics}
        self.set("lan", cable=ports | {GATEWAY_PORT: 1}, link=ports | {GATEWAY_PORT: 1})
        self.set("lan", light=dict.fromkeys((*ports, GATEWAY_PORT), 1))

    def route(self, source: int, cpu: int, vector: int, delivery_mode: int = 0) -> None:
        """The interrupt controller hands a vector over now; 64 + n as source is CPU n."""
        page = self.page("apic")
        at = page.schema.index("last") + page["last_count"] % LAST_ROWS * 2
        page.words[at] = self.now
        page.words[at + 1] = source | cpu << 16 | vector << 32 | delivery_mode << 40
        page["last_count"] += 1

    def msix(self, nic: str, *entries: tuple[int, int]) -> None:
        """MSI-X table of a NIC: (CPU, vector) of its first entries, flat logical."""
        table = dict(enumerate(entries))
        self.set(
            nic,
            msix_address={n: 0xFEE00004 | 1 << cpu + 12 for n, (cpu, _) in table.items()},
            msix_data={n: vector for n, (_, vector) in table.items()},
        )

    def pings(
        self, sent: int, received: int, interval_ms: int = 10, window: str | None = None
    ) -> None:
        """A ping that runs on cpu0 and whose newest reply came now; ``window`` as on the screen."""
        bits = (1 << min(received, 64)) - 1
        if window is not None:
            bits = sum(1 << n for n, letter in enumerate(reversed(window)) if letter == "!")
        self.set(
            "cpu0",
            ping_running=1,
            ping_sent=sent,
            ping_received=received,
            ping_interval_ns=interval_ms * MS,
            ping_last_sent_ns=self.now,
            ping_last_reply_ns=self.now,
            ping_last_rtt_ns=420_000,
            ping_window=bits,
        )

    # -- worker pools

    def pool(self, name: str, row: int, cpu: int | None, *, nice: int = 0, id: int | None = None,
             workers: int = 2, idle: int = 2, running: int = 0, worklist: int = 0,
             inactive: int = 0, stuck_ms: int = 0, head: str = "", thread: str = "",
             flags: int = 0) -> None:  # fmt: skip
        """A row of pools, as the pool writes it into its CPU's page."""
        word = 1 + (2 * (cpu or 0) + row if id is None else id)
        word |= (0 if cpu is None else cpu + 1) << 16 | nice + 20 << 32 | flags << 40
        self.set(
            name, wq_pool={row: word}, wq_workers={row: workers}, wq_idle={row: idle},
            wq_running={row: running}, wq_worklist={row: worklist}, wq_inactive={row: inactive},
            wq_watchdog_ts={row: self.now - stuck_ms * MS},
            wq_next=_texts(row, WQ_WORK_WORDS, head),
            wq_pool_name=_texts(row, WQ_NAME_WORDS, thread),
        )  # fmt: skip

    def works(self, name: str, row: int, comm: str, work: str, workqueue: str, ms: int, *,
              pool: int = 0, asleep: bool = False, flags: int = 0) -> None:  # fmt: skip
        """A worker that has run a work for so many ms."""
        at = row * WQ_BUSY_WORDS
        words = {
            at: 100 + row | pool << 32 | asleep << 40 | flags << 44,
            at + 1: self.now - ms * MS,
        }
        words |= _text(at + 2, 2, comm) | _text(at + 4, WQ_WORK_WORDS, work)
        self.set(name, wq_busy=words | _text(at + 4 + WQ_WORK_WORDS, WQ_NAME_WORDS, workqueue))

    def delays(self, name: str, row: int, work: str, left_ms: int) -> None:
        """A delayed work on its timer."""
        at = row * WQ_DELAYED_WORDS
        word = TIMER + 2 * row
        self.ram.atomics.store(word, self.settings.cpu_names.index(name) << 8 | PENDING)
        words = {at: word + 1, at + 1: self.now + left_ms * MS} | _text(at + 2, WQ_WORK_WORDS, work)
        self.set(name, wq_timers=words)
        self.add(name, "wq_delayed", 1)


def _text(at: int, words: int, text: str) -> dict[int, int]:
    raw = text.encode().ljust(8 * words, b"\0")
    return {at + n: int.from_bytes(raw[8 * n : 8 * n + 8], "little") for n in range(words)}


def _texts(row: int, words: int, text: str) -> dict[int, int]:
    return _text(row * words, words, text)
