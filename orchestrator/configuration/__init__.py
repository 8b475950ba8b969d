"""TOML files as what they mean: who writes a file is told file, line, table and key.

``tomlfile`` reads any of them and places every complaint, ``tables`` is what all their tables are
to pydantic. A machine's file: ``configtables`` and ``lanconfig`` (its keys), ``config`` (file and
command line -> settings), ``bondcheck`` (what Linux would refuse), ``eras`` (named behaviours),
``configtext`` (the way back to text).
"""
