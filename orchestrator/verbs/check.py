"""The verb ``check``: validate files, or list the keys of a table; start nothing.

A file is one of four kinds, told by the keys that only this kind has. A bundled name is looked up
in the kinds' order, so that a scenario and a machine of the same name would be the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.configuration import config, configtext, tomlfile
from orchestrator.errors import GOES_ON, OK, BottomhalfError, did_you_mean, listed, plural, words
from orchestrator.verbs import parse, usage

if TYPE_CHECKING:
    from orchestrator.cli import Options


def check(options: Options, argv: Sequence[str]) -> int:
    """One line for each file that is right, the message for the first that is not."""
    given = parse("check", argv, ("--keys",))
    if "--keys" in given.flags:
        if len(given.words) > 1:
            raise BottomhalfError("check --keys lists one table at a time", usage("check"))
        print(configtext.keys_text(given.words[0] if given.words else ""), end="")
        return OK
    if not given.words:
        raise BottomhalfError("check what?", usage("check"))
    for name in given.words:
        kind = _kind(name)
        text = f"{name}: {kind.text(name)}"
        row = {"file": name, "kind": kind.name, "text": text}
        print(json.dumps(row) if options.json else text)
    return OK


def _machine(name: str) -> str:
    machine = config.load(name)
    bond = machine.bond
    cpus = "whose CPUs are a guest's"
    if not machine.guest:
        cpus = f"era {machine.era}, {plural(machine.cpus, 'CPU')}"
    over = f", {bond.name} {bond.mode} over {words(bond.slaves)}" if bond else ""
    return f"a machine, {cpus}, {words(machine.nic_names)}{over}"


def _scenario(name: str) -> str:
    from orchestrator.scenarios import scenario  # noqa: PLC0415

    played = scenario.load(name)
    length = f"{played.until_ns / 1e9:g} s" if played.until_ns else "until all is done"
    return f"a scenario of {plural(len(played.steps), 'step')} on {played.machine.name}, {length}"


def _lab(name: str) -> str:
    from orchestrator.labs import file  # noqa: PLC0415

    lab = file.load(name)
    return (
        f"a lab of {plural(len(lab.scenario.steps), 'step')} and "
        f"{plural(len(lab.questions), 'question')}, {lab.title}"
    )


def _guest_lab(name: str) -> str:
    from orchestrator.labs import guestlab  # noqa: PLC0415

    lab = guestlab.load(name)
    return (
        f"a lab that the emulated machine and a real kernel play ({lab.scenario.name}, "
        f"{plural(len(lab.scenario.steps), 'step')}), of {plural(len(lab.questions), 'question')}, "
        f"{lab.title}"
    )


class _Kind(NamedTuple):
    """A kind of file: its folder, and the keys of which a file of this kind has one."""

    name: str
    folder: str
    keys: frozenset[str]
    text: Callable[[str], str]


_MACHINE = _Kind("machine", "machines", frozenset(), _machine)
#: The first that fits.
_KINDS = (
    _Kind("lab", "guestlabs", frozenset({"scenario"}), _guest_lab),
    _Kind("lab", "labs", frozenset({"question", "sentence"}), _lab),
    _Kind("scenario", "scenarios", frozenset({"step", "ping", "until", "title", "machine"}),
          _scenario),
)  # fmt: skip


def _kind(name: str) -> _Kind:
    """What the file is; the message where there is none."""
    if tomlfile.is_path(name):
        keys = tomlfile.read(_MACHINE.folder, name).data.keys()
        return next((kind for kind in _KINDS if kind.keys & keys), _MACHINE)
    bundled = {kind: tomlfile.bundled(kind.folder) for kind in (_MACHINE, *reversed(_KINDS))}
    for kind, names in bundled.items():
        if name in names:
            return kind
    every = [one for names in bundled.values() for one in names]
    raise BottomhalfError(
        f"no machine, scenario or lab `{name}`{did_you_mean(name, every)}",
        f"{listed('machines:', bundled[_MACHINE])}\n{GOES_ON}scenarios: "
        f"{words(tomlfile.bundled('scenarios'))} · labs: bottomhalf lab list · {tomlfile.PATHS}",
    )
