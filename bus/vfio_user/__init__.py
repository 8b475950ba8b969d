"""The vfio-user protocol: how a virtual machine monitor uses a PCI device in another process.

Source: the vfio-user specification, version 0.0 (QEMU, docs/interop/vfio-user.rst), and what QEMU's
client does. Sans IO: ``Server.receive`` takes bytes and descriptors of one connection and leaves
requests for the device (bus messages) in ``requests``; ``Server.take`` takes the device's answers
and interrupts and leaves bytes in ``output`` and descriptors of eventfds in ``signals``. What
opens, maps, writes and closes descriptors is ``bus.vfio_server``.

``wire`` is the bytes of a message, ``server`` a connection and its memory, ``owed`` a command that
waits for the device, ``card`` what the device shows of itself, ``regions`` the accesses,
``eventfds`` the interrupts.

**ADOPT** is ours and not the specification's: it brings a descriptor, another connection, on which
the client's commands come from now on; what was agreed and mapped stays. By it whoever plugs the
device into a machine keeps the machine's connection while the device's process is another one.

Left out: messages in place of mapped memory (memory without a descriptor is out of the device's
reach), regions that the client maps itself, migration.
"""

from bus.vfio_user.card import Card
from bus.vfio_user.eventfds import INTX, MSI, MSIX
from bus.vfio_user.server import Adopt, Map, Server
from bus.vfio_user.wire import (
    ADOPT,
    DEVICE_RESET,
    DMA_MAP,
    DMA_UNMAP,
    FDS_MAX,
    GET_INFO,
    GET_IRQ_INFO,
    GET_REGION_INFO,
    MESSAGE_BYTES_MAX,
    REGION_READ,
    REGION_WRITE,
    SET_IRQS,
    VERSION,
    WRITE_MULTI,
    ProtocolError,
    command,
    map_body,
    unmap_body,
    version_body,
)

__all__ = [
    "ADOPT",
    "DEVICE_RESET",
    "DMA_MAP",
    "DMA_UNMAP",
    "FDS_MAX",
    "GET_INFO",
    "GET_IRQ_INFO",
    "GET_REGION_INFO",
    "INTX",
    "MESSAGE_BYTES_MAX",
    "MSI",
    "MSIX",
    "REGION_READ",
    "REGION_WRITE",
    "SET_IRQS",
    "VERSION",
    "WRITE_MULTI",
    "Adopt",
    "Card",
    "Map",
    "ProtocolError",
    "Server",
    "command",
    "map_body",
    "unmap_body",
    "version_body",
]
