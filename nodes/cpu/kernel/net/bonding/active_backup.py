"""Mode 1, active-backup: one slave sends and receives, the others wait.

The port is the base's: the current active slave sends, whatever its state. (2.6.18 copies IGMP
frames to every slave; this machine joins no multicast group and sends none.)
"""

from __future__ import annotations

from nodes.cpu.kernel.net.bonding.bond import BondPort, Slave
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode


class ActiveBackupPort(BondPort):
    """bond_xmit_activebackup."""


@bonding_mode(ActiveBackupPort)
class ActiveBackup(Mode):
    name, number = "active-backup", 1
    long_name = "fault-tolerance (active-backup)"
    uses_primary = True
    starts_active, starts_inactive = False, True

    def backup_after_up(self, slave: Slave) -> bool:
        """2.6.18 makes it a backup unless it is the primary; that is what it was."""
        return slave.backup
