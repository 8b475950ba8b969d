"""Workers for ``-n auto``, and bytecode for the programs that tests start.

A machine of processes is a new interpreter each time, and so is a command line. Where
``PYTHONDONTWRITEBYTECODE`` is set each of them would compile all sources anew, which takes longer
than what most tests do. They get a cache of their own, beside what pytest keeps.

Workers of ``-n`` collect the same files at the same time, and each would rewrite the assertions of
all of them, which is most of what collecting costs. So each imports a share of its own first and
finds what the others made of theirs in the cache.

A script that starts the tests in its background (``make test &``) has them ignore SIGINT, and so
would every program they start: those that are to end by Ctrl-C would never end.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys

import pytest

_PREFIX, _NEVER = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests of real processes often wait for a machine's timers."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_configure(config: pytest.Config) -> None:
    """In the process that a person started; xdist's workers and what they start inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # programs get the default
    cache = getattr(config, "cache", None)  # -p no:cacheprovider: every program compiles for itself
    if cache is not None and not hasattr(config, "workerinput") and os.environ.pop(_NEVER, None):
        os.environ[_PREFIX] = sys.pycache_prefix = str(cache.mkdir("bytecode"))
        sys.dont_write_bytecode = False  # rewritten assertions too


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """A worker's share; what cannot be imported is said by the collection."""
    config = session.config
    if not hasattr(config, "workerinput"):
        return
    gc.disable()  # what is imported and collected stays
    number = int(config.workerinput["workerid"].removeprefix("gw"))
    asked = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    files = sorted({path for folder in asked for path in folder.rglob("test_*.py")})
    for path in files[number :: config.workerinput["workercount"]]:
        module = path.relative_to(config.rootpath).with_suffix("")
        try:
            importlib.import_module(".".join(module.parts))
        except (Exception, pytest.skip.Exception):
            continue


def pytest_collection_finish(session: pytest.Session) -> None:
    """A machine is a web of objects that refer to one another: thousands of them come and go beside
    the tests, which stay. What is collected is young, and not after every 700 objects."""
    gc.freeze()
    gc.set_threshold(50_000, 5, 5)
    gc.enable()
