"""Workers for ``-n auto``, and bytecode for the programs that tests start.

A machine of processes is a new interpreter each time, and so is a command line. Where
``PYTHONDONTWRITEBYTECODE`` is set each of them would compile all sources anew, which takes longer
than what most tests do. They get a cache of their own, for this session only.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

_PREFIX, _NEVER = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests of real processes often wait for a machine's timers."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_configure(config: pytest.Config) -> None:
    """In the process that a person started; xdist's workers inherit it."""
    if hasattr(config, "workerinput") or _NEVER not in os.environ:
        return
    cache = tempfile.mkdtemp(prefix="bottomhalf-pycache-")
    never = os.environ.pop(_NEVER)
    os.environ[_PREFIX] = cache

    def undo() -> None:
        del os.environ[_PREFIX]
        os.environ[_NEVER] = never
        shutil.rmtree(cache, ignore_errors=True)

    config.add_cleanup(undo)
