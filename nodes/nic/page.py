"""The page of counters of a NIC: everything a dashboard or the ledger reads without asking it.

Fields of three words are counts of frames by class (``nodes.ledger``). Every frame that enters at
one side ends in exactly one named place; the two sums that hold after each turn are::

    tx_fetched   = tx_frames_out + all tx_drop_*
    rx_frames_in = rx_dma + all rx_drop_* + rx_buffered

and for interrupts ``msi_raised = msi_out + msi_merged_pba + msi_cleared + msi_pending``.
"""

from __future__ import annotations

from bus.ram import Field, Schema
from nodes.faults import FIELD as FAULTS

QUEUE_ROWS = 16
VECTOR_ROWS = 64

#: Where a frame can end in the NIC, in the words of the page.
TX_DROPS = (
    "tx_drop_descriptor", "tx_drop_offload", "tx_drop_oversize", "tx_drop_fcs",
    "tx_drop_laser_off",
)  # fmt: skip
RX_DROPS = (
    "rx_drop_link_down", "rx_drop_rx_off", "rx_drop_length", "rx_drop_filter", "rx_drop_vlan",
    "rx_drop_queue_off", "rx_drop_no_descriptor", "rx_drop_missed", "rx_drop_dma",
    "rx_drop_reset", "rx_drop_control", "rx_drop_crc", "rx_drop_loopback",
)  # fmt: skip

_TX_DOC = {
    "tx_drop_descriptor": "not a descriptor the hardware knows, or one without data",
    "tx_drop_offload": "its context descriptor does not fit the packet, or there is none",
    "tx_drop_oversize": "longer than the wire carries",
    "tx_drop_fcs": "IFCS off and the FCS in the buffer is wrong",
    "tx_drop_laser_off": "sent while the laser was off (ESDP.SDP3)",
}
_RX_DOC = {
    "rx_drop_link_down": "arrived while LINKS.UP was 0",
    "rx_drop_rx_off": "RXCTRL.RXEN was 0",
    "rx_drop_length": "shorter than 64 or longer than MAXFRS on the wire, or an 802.3 length lies",
    "rx_drop_filter": "destination address: no RAL/RAH, MTA, FCTRL match",
    "rx_drop_vlan": "VLAN not in VFTA",
    "rx_drop_queue_off": "RXDCTL.ENABLE was 0",
    "rx_drop_no_descriptor": "ring empty and SRRCTL.DROP_EN (QPRDC)",
    "rx_drop_missed": "packet buffer full (MPC)",
    "rx_drop_dma": "buffer or descriptor outside the mapped windows",
    "rx_drop_reset": "was in the packet buffer when the port was reset",
    "rx_drop_control": "MAC control frame: pause with MFLCN.DPF, others without PMCF",
    "rx_drop_crc": "bits flipped on the wire (CRCERRS); bad packets are not stored",
    "rx_drop_loopback": "came from the wire while HLREG0.LPBK fed the receiver",
}

NIC_SCHEMA = Schema(
    (
        # state, as of the end of the last turn
        Field("link_up", "LINKS.UP"),
        Field("light", "light from the far end"),
        Field("laser", "our laser is on"),
        Field("pci_command", "command register: 2 memory decode, 4 bus master"),
        Field("msix_enabled", ""),
        Field("rxen", "RXCTRL.RXEN"),
        Field("txen", "DMATXCTL.TE"),
        Field("drv_load", "CTRL_EXT.DRV_LOAD: a driver has the port open"),
        Field("eicr", ""),
        Field("eims", ""),
        Field("eicr_vectors", "pending vectors 0..63"),
        Field("eims_vectors", "enabled vectors 0..63"),
        Field("pba", "MSI-X pending bits"),
        Field("resets", "of the port: power-on, CTRL.RST, CTRL.LNK_RST, function"),
        Field("link_changes", "changes of LINKS.UP"),
        Field("guest", "a guest is connected (``nodes.nic.guest``)"),
        # ledger, transmit
        Field("tx_fetched", "frames read from memory", 3),
        Field("tx_frames_out", "handed to the wire or looped back", 3),
        *(Field(name, _TX_DOC[name], 3) for name in TX_DROPS),
        Field("tx_dma_refused", "frames that could not be read: outside the mapped windows"),
        Field("tx_lost_peer_dead", "handed to the wire, but the switch was dead", 3),
        Field("tx_lost_peer_full", "handed to the wire, but the switch took nothing", 3),
        # ledger, receive
        Field("rx_frames_in", "taken from the wire or looped back", 3),
        Field("rx_dma", "written to memory with DD", 3),
        Field("rx_buffered", "now waiting in the packet buffer", 3),
        *(Field(name, _RX_DOC[name], 3) for name in RX_DROPS),
        # ledger, interrupts
        Field("msi_raised", "vectors raised by the device"),
        Field("msi_out", "messages handed to the interrupt controller"),
        Field("msi_masked_pba", "became a pending bit: vector, function or MSI-X masked"),
        Field("msi_merged_pba", "of these, the bit was pending already"),
        Field("msi_pending", "pending bits now"),
        Field("msi_cleared", "pending bits cleared by software or reset, never sent"),
        Field("msi_lost_peer_dead", "handed over, but the interrupt controller was dead"),
        Field("msi_lost_peer_full", "handed over, but its queue was full"),
        Field("msi_lost_fault", "handed over, but lost on the way: fault lose-msi"),
        Field("msi_dup_fault", "handed over once more: fault dup-msi"),
        Field("msi_by_vector", "messages handed over, by vector", VECTOR_ROWS),
        Field("causes", "causes by vector", VECTOR_ROWS),
        Field("moderated", "times a vector had to wait for its EITR", VECTOR_ROWS),
        Field("itr_ns", "interval by vector", VECTOR_ROWS),
        Field("msix_address", "low address word of each entry of the MSI-X table", VECTOR_ROWS),
        Field("msix_data", "data word of each entry of the MSI-X table", VECTOR_ROWS),
        # rings, as of the end of the last turn that touched them
        Field("tx_head", "TDH", QUEUE_ROWS),
        Field("tx_tail", "TDT", QUEUE_ROWS),
        Field("tx_size", "descriptors; 0 while disabled", QUEUE_ROWS),
        Field("tx_base", "address of the ring", QUEUE_ROWS),
        Field("tx_packets", "by queue", QUEUE_ROWS),
        Field("rx_head", "RDH", QUEUE_ROWS),
        Field("rx_tail", "RDT", QUEUE_ROWS),
        Field("rx_size", "descriptors; 0 while disabled", QUEUE_ROWS),
        Field("rx_base", "address of the ring", QUEUE_ROWS),
        Field("rx_packets", "by queue", QUEUE_ROWS),
        Field("rx_no_descriptor", "drops by queue", QUEUE_ROWS),
        # DMA
        Field("dma_reads", "frames' buffers read"),
        Field("dma_read_bytes", ""),
        Field("dma_writes", "frames' buffers written"),
        Field("dma_write_bytes", ""),
        Field("dma_refused", "accesses outside the mapped windows"),
        # PCIe
        Field("mmio_writes", "taken from the bus"),
        Field("mmio_reads", "taken from the bus"),
        Field("config_writes", ""),
        Field("config_reads", ""),
        Field("unsupported_requests", "memory accesses while decode was off, or to no BAR"),
        Field("err_cor", "ERR_COR messages to the root port"),
        Field("err_nonfatal", "ERR_NONFATAL messages to the root port"),
        Field("err_fatal", "ERR_FATAL messages to the root port"),
        Field("intx_asserts", "Assert_INTx handed to the interrupt controller"),
        Field("intx_deasserts", "Deassert_INTx handed to the interrupt controller"),
        Field("intx_lost_peer_dead", "handed over, but the interrupt controller was dead"),
        Field("intx_lost_peer_full", "handed over, but its queue was full"),
        Field("completions_lost", "answers that the CPU did not take"),
        Field("unexpected", "messages that mean nothing to a NIC"),
        FAULTS,
    )
)  # fmt: skip
