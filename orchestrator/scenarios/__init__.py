"""A scenario: from its file to what it has shown.

``scenario`` reads the file (``stepwords`` asks each program what it will say to its words,
``expect`` is what a step can expect), ``play`` plays it and ``story`` tells it while it goes on;
``phases`` and ``facts`` are what was measured, ``played`` the verdicts, ``result`` and ``report``
what is kept.
"""
