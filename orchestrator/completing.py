"""Candidates for shell completion: what may stand behind a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import tomlfile

if TYPE_CHECKING:
    from nodes.machine import MachineSettings

_NODES = ("kill", "freeze", "thaw", "restart", "top")


def candidates(verb: str) -> list[str]:
    """Words for the shell; of the machine that runs, or of the default one."""
    if verb == "up":
        return tomlfile.bundled("machines")
    if verb == "run":
        return tomlfile.bundled("scenarios")
    if verb == "check":
        return [*tomlfile.bundled("machines"), *tomlfile.bundled("scenarios"), "--keys"]
    if verb == "completion":
        return ["bash", "zsh", "fish"]
    if verb == "era":
        from orchestrator import eras  # noqa: PLC0415

        return list(eras.names())
    settings = _settings()
    if verb in _NODES:
        return [*settings.node_names, "active", "backup"]
    if verb == "cable":
        return [*settings.nic_names, "active", "backup", "in", "out"]
    if verb == "ping":
        return ["gateway", *settings.gateway.addresses]
    if verb == "tcpdump":
        return ["-i", "bond0", *settings.nic_names, "any"]
    if verb == "cat":
        from orchestrator import procfiles  # noqa: PLC0415

        return list(procfiles.paths(settings))
    if verb == "follow":
        return ["ping"]
    if verb == "trace":
        from orchestrator.ftracetable import GROUPS  # noqa: PLC0415

        return [*settings.node_names, "-e", "--for", *GROUPS]
    return []


def _settings() -> MachineSettings:
    from orchestrator import config, running  # noqa: PLC0415
    from orchestrator.errors import BottomhalfError  # noqa: PLC0415

    try:
        machine = running.find(None)
        return running.unpack_settings((machine.directory / running.SETTINGS_FILE).read_bytes())
    except (BottomhalfError, OSError):
        return config.load()
