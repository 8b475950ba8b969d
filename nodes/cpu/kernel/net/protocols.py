"""Numbers of protocols, as include/uapi/linux/if_ether.h, if_arp.h, in.h and icmp.h have them."""

from __future__ import annotations

ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806

#: How an ARP packet begins: hardware and protocol type, and the sizes of their addresses.
ARP_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"

IPPROTO_ICMP, IPPROTO_UDP = 1, 17

ICMP_ECHOREPLY, ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_ECHO = 0, 3, 4, 5, 8
ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB = 11, 12
