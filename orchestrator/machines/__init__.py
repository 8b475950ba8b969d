"""A machine that runs: its interface, who keeps it up, and how others reach it.

``machine`` is the interface; ``processes`` (the product), ``simulated`` (virtual time), ``client``
(somebody else's, over its control socket) and ``joined`` (two on one LAN) are the kinds of it;
``local`` and ``desk`` are what they share. Underneath: ``launch`` (the fork server), ``supervise``
(who lives), ``placement``, ``rundir``, ``uplink``. A machine that stays: ``owning`` starts it,
``daemon`` is its socket, ``running`` finds it again. What can be read of any: ``counts``,
``kernellog``, ``procfiles``, ``hosts``; ``places`` says which node sits where, ``ready`` when it
may be used.
"""
