"""A machine whose CPUs are QEMU's: a real kernel drives our NIC processes through vfio-user.

``fetch`` (with ``aptroot`` and ``cache``) gets QEMU, a kernel and tools; ``initramfs`` (with
``cpio``, ``modules`` and ``init.sh``) makes the guest's root; ``qemu`` writes its command line;
``machine`` owns it beside the NICs and the LAN; ``channel`` runs commands in it.
"""
