"""What the looking verbs print, each made from pages, records, captures or /proc alone.

The way of a packet: ``follow`` (with ``followtable``), ``taps`` (with ``tapreasons``), ``flows``,
``drops``, ``ladder``. A device: ``registers``, ``rings``, ``accesses``. A kernel: ``wqtable``,
``netstat``, ``sar``.
"""
