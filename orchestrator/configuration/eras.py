"""Kernel eras as a user names them: presets, single behaviours, and what differs between two.

The table itself is ``nodes.cpu.kernel.params``: a preset is a release's row of named behaviours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.params import CHOICES, PRESETS, with_overrides
from orchestrator.errors import BottomhalfError, did_you_mean

if TYPE_CHECKING:
    from orchestrator.configuration.tomlfile import TomlFile


class StandIn(NamedTuple):
    """A preset and the behaviours that make it stand for a kernel without one."""

    era: str
    settings: tuple[str, ...]
    note: str


#: Kernels that labs can be run for though they have no preset.
STAND_INS = {
    "2.6.32": StandIn(
        "2.6.18",
        ("packet_tap=orig_dev",),
        "era 2.6.18 with packet_tap=orig_dev, the receive path of 2.6.28 to 2.6.38 and of RHEL 5.3 "
        "and later; everything else is 2.6.18's",
    ),
}


def names() -> tuple[str, ...]:
    """Eras with a preset, oldest first as the table has them."""
    return tuple(PRESETS)


def no_preset(era: str, prefix: str = "") -> BottomhalfError:
    """The message for an era without a preset."""
    known = names()
    return BottomhalfError(
        f"{prefix}no preset for era {era}",
        f"presets are {', '.join(known)} (`bottomhalf era {known[-2]} {known[-1]}` shows what "
        "changed); one behaviour: --set packet_tap=rx_handler",
    )


def behaviours(era: str) -> dict[str, Any]:
    """All behaviours of an era by name."""
    if era not in PRESETS:
        raise no_preset(era)
    return PRESETS[era]._asdict()


def differences(old: str, new: str) -> list[tuple[str, Any, Any]]:
    """(behaviour, value in ``old``, value in ``new``) where the two eras differ."""
    a, b = behaviours(old), behaviours(new)
    return [(key, a[key], b[key]) for key in a if a[key] != b[key]]


def value_text(era: str, key: str, value: str | int, file: TomlFile) -> str:
    """Check one behaviour that is set on top of an era; its value as text."""
    current = behaviours(era)
    loc = ("set", key)
    if key not in current:
        raise file.error(
            loc,
            f"no behaviour `{key}`{did_you_mean(key, current)}",
            f"`bottomhalf era {era}` lists all {len(current)}",
        )
    allowed = CHOICES.get(key, ())
    text = str(value)
    try:
        with_overrides(PRESETS[era], ((key, text),))
    except ValueError as error:
        hint = f"era {era} has {current[key]}"
        raise file.error(
            loc, f"{key} = {text}: {error}{did_you_mean(text, allowed)}", hint
        ) from None
    return text
