"""Configuration as text: the keys of a table for who writes a file, and a machine as a file."""

from __future__ import annotations

from nodes.machine import BondSettings, MachineSettings
from orchestrator.configuration import lanconfig, tomlfile
from orchestrator.configuration.configtables import BOND_NOT_BUILT, TABLES
from orchestrator.errors import BottomhalfError, did_you_mean, words

#: Keys of the bond that a written file has whatever their value is.
_SHOWN = ("slaves", "mode", "miimon", "updelay", "downdelay", "use_carrier", "num_grat_arp",
          "address")  # fmt: skip


def keys_text(table: str = "") -> str:
    """All keys of a table with what they take, their default and what they do."""
    from orchestrator.labs.file import LabFile, QuestionTable  # noqa: PLC0415  (a machine needs none)
    from orchestrator.labs.guestlab import GuestLabFile  # noqa: PLC0415
    from orchestrator.scenarios.scenario import RealKernelTable, ScenarioFile, StepTable  # noqa: PLC0415

    tables = TABLES | {
        "scenario": ScenarioFile,
        "step": StepTable,
        "real_kernel": RealKernelTable,
        "lab": LabFile,
        "question": QuestionTable,
        "guestlab": GuestLabFile,
    }
    if table not in tables:
        known = [name for name in tables if name]
        raise BottomhalfError(
            f"no table [{table}]{did_you_mean(table, known)}",
            f"tables are {words(known)}; without a name the top of a machine's file is shown",
        )
    lines = []
    for key, info in tables[table].model_fields.items():
        if key in tables or key == "set":
            lines.append(f"{key}\n    {info.description}\n    a table: [{key}]\n")
            continue
        default = info.get_default(call_default_factory=False)
        shown = "needed" if info.is_required() else f"default: {tomlfile.show(default)}"
        lines.append(
            f"{key}\n    {info.description}\n    allowed: {tomlfile.allowed(info)}; {shown}\n"
        )
    if table == "bond0":
        lines.append("known to Linux, not built yet: " + ", ".join(BOND_NOT_BUILT) + "\n")
    return "".join(lines)


def to_toml(settings: MachineSettings) -> str:
    """The machine as a file that ``up`` and ``check`` read back to the same settings."""
    quoted = ", ".join(f'"{nic.name}"' for nic in settings.nics)
    lines = [
        f'era  = "{settings.era}"',
        f"cpus = {settings.cpus}",
        f"nics = [{quoted}]",
        f'hostname = "{settings.hostname}"',
        f"completion_timeout_ms = {settings.completion_timeout_ms}",
        f'address = "{settings.address}"',
        f"fast_probe = {tomlfile.show(settings.fast_probe)}",
    ]
    if settings.guest:
        lines.append("guest = true")
    if settings.placement != "bound":
        lines.append(f'placement = "{settings.placement}"')
    if settings.hotplug_slots:
        slots = ", ".join(f'"{settings.nics[number].name}"' for number in settings.hotplug_slots)
        lines.append(f"hotplug = [{slots}]")
    if settings.bond is not None:
        lines += ["", f"[{settings.bond.name}]"]
        for key, value in settings.bond._asdict().items():
            if key == "name" or (value == BondSettings._field_defaults[key] and key not in _SHOWN):
                continue
            if isinstance(value, tuple):
                lines.append(f"{key} = [" + ", ".join(f'"{v}"' for v in value) + "]")
            else:
                lines.append(f"{key} = {tomlfile.show(value)}")
    lines += ["", *lanconfig.to_toml(settings.gateway, settings.lan)]
    if settings.overrides:
        lines += ["", "[set]", *(f'{key} = "{value}"' for key, value in settings.overrides)]
    return "\n".join(lines) + "\n"
