"""Files of /proc and /sys that an era does not have yet; names as in ``kernel.procfs.tree``.

A row of the parameters (``absent_files``). A pattern that ends in a slash takes what is below it.
``ABSENT_VALUES`` are words of bonding's options that came after 3.10. (2.6.18 has layer2+3, as
RHEL 5.2 and later have it.)
"""

from __future__ import annotations

_BOND, _SLAVE = "/sys/class/net/{bond}/bonding/", "/sys/class/net/{slave}/bonding_slave/"
ABSENT_310 = (
    "/proc/sys/net/core/netdev_budget_usecs",
    _SLAVE,
    *(
        _BOND + name
        for name in (
            "ad_actor_sys_prio", "ad_actor_system", "ad_user_port_key", "arp_all_targets",
            "arp_missed_max", "lacp_active", "lp_interval", "packets_per_slave",
            "peer_notif_delay", "tlb_dynamic_lb",
        )
    ),
)  # fmt: skip
ABSENT_18 = (
    *ABSENT_310,
    "/sys/class/net/{port}/queues/",
    "/sys/bus/pci/rescan",
    "/sys/bus/pci/devices/{pci}/remove",
    *(
        "/sys/devices/system/cpu/" + name
        for name in (
            "online", "offline", "possible", "present", "kernel_max",
            "{online_cpu}/topology/core_siblings_list",
            "{online_cpu}/topology/thread_siblings_list",
        )
    ),
    *(
        _BOND + name
        for name in (
            "ad_select", "all_slaves_active", "arp_validate", "fail_over_mac", "min_links",
            "num_grat_arp", "num_unsol_na", "primary_reselect", "queue_id", "resend_igmp",
        )
    ),
)  # fmt: skip
ABSENT_VALUES = (
    *(f"xmit_hash_policy={word}" for word in ("encap2+3", "encap3+4", "vlan+srcmac")),
    *(f"arp_validate={word}" for word in ("filter", "filter_active", "filter_backup")),
)
