"""Packets as tcpdump knows them: taken from the taps, filtered, written, read and printed.

``capture`` opens taps on a machine; ``pcapfilter`` compiles an expression (libpcap), ``bpf`` runs
it; ``pcap`` and ``pcapng`` write files, ``pcapread`` reads them. ``tcpdump`` is the verb, with
``tcpdumpargs`` (its command line), ``tcpdumptext`` and ``packettext*`` (its lines) and
``tcpdumpread`` (``-r``).
"""
