"""pciehp: hot-plug of PCIe slots, after drivers/pci/hotplug/pciehp_*.c.

``controller`` what the boot CPU knows of a slot, and its words in the log, ``hpc`` registers,
commands and the interrupt, ``ctrl`` what is done about an event, ``pci`` the device that comes or
goes, ``core`` finding the ports.

Behaviours: ``pciehp_thread`` (who does the work: a kernel thread for all slots, a workqueue, the
line's thread), ``pciehp_events`` (until 3.14 only presence, and only if the slot says that cards
may be pulled by surprise; later the link too), ``removed_config`` (since 4.12 a device that is gone
is marked, and its configuration space is not asked any more).

Left out: attention buttons and latches (the slots have none), poll mode, DPC, suspend; that
2.6.18's handler switches HPIE off while it runs.
"""
