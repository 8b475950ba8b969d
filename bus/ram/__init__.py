"""A machine's RAM: one memory-mapped file that all its nodes share, each byte with one writer.

Physical addresses of the emulated machine are offsets in this file. Its sections, and the module
that reads and writes each (``layout`` says where each begins)::

    header      file       magic, power-on by two clocks, for each node its incarnation and pid
    pages       page       one page of counters for each node (64-bit words, common part first)
    recorders   (recorder) one flight-recorder ring for each node: ``bus.recorder``
    logs        log        one kernel-log ring for each CPU
    atomics     atomics    words that several CPUs change: locks, PENDING and SCHED bits
    csd         between    one record ring for each ordered pair of CPUs
    handover    between    packet buffers of each CPU for skbs that it hands to another
    taps        tap        one packet ring for each CPU, and one for the LAN
    iommu       iommu      for each NIC the windows its driver mapped
    last        lastwords  the boot CPU's last snapshot of its tables, for when it is dead
    dma                    descriptor rings and packet buffers, handed out by the kernel

Whatever two processes may look at at the same time is a naturally aligned 32- or 64-bit word,
read and written through a cast ``memoryview`` (a single load or store); the payload is always
stored before the word that publishes it. ``Atomics`` are the one exception to "one writer".
"""

from bus.ram.between import CsdRing, HandoverPool
from bus.ram.file import MAGIC, Ram
from bus.ram.iommu import Iommu, Window
from bus.ram.layout import (
    ATOMIC_WORDS,
    BUFFER_BYTES,
    CSD_RECORD_WORDS,
    CSD_RECORDS,
    HANDOVER_BUFFERS,
    IOMMU_WINDOWS,
    LAST_BYTES,
    LOG_LINES,
    PAGE_BYTES,
    RECORD_WORDS,
    RECORDS,
    TAP_SLOTS,
    Layout,
)
from bus.ram.log import LogRing
from bus.ram.page import COMMON_SCHEMA, Field, Page, Schema
from bus.ram.tap import TapPacket, TapRing

__all__ = [
    "ATOMIC_WORDS",
    "BUFFER_BYTES",
    "COMMON_SCHEMA",
    "CSD_RECORDS",
    "CSD_RECORD_WORDS",
    "HANDOVER_BUFFERS",
    "IOMMU_WINDOWS",
    "LAST_BYTES",
    "LOG_LINES",
    "MAGIC",
    "PAGE_BYTES",
    "RECORDS",
    "RECORD_WORDS",
    "TAP_SLOTS",
    "CsdRing",
    "Field",
    "HandoverPool",
    "Iommu",
    "Layout",
    "LogRing",
    "Page",
    "Ram",
    "Schema",
    "TapPacket",
    "TapRing",
    "Window",
]
