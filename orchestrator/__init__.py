"""The operator's side: a command line around machines.

``cli`` finds the verb of a command line; ``verbs/`` holds them all in one table. A verb works on a
machine (``machines/``) that a file describes (``configuration/``), prints what it sees (``views/``,
``captures/``, ``tracing/``, ``dashboards/``), or plays a scenario (``scenarios/``) or a lab
(``labs/``) on it and balances the ledger (``ledger/``). ``guest/`` is the machine whose CPUs are
QEMU's.
"""
