"""Run directories: names, places, locks, leftovers."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from orchestrator.machines import rundir
from orchestrator.machines.rundir import RunDir, RunDirError, running_machines


def test_the_directory_is_private_and_goes_with_its_base_when_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    monkeypatch.setattr(rundir, "bases", lambda: [base])
    made = RunDir.create("m1")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    made.remove()
    made.remove()
    assert not base.exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "ü", "x" * 65, "a\0b"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="cannot be called"):
        RunDir.create(name, tmp_path)


def test_a_locked_directory_is_refused_and_a_leftover_is_emptied(tmp_path: Path) -> None:
    first = RunDir.create("m1", tmp_path)
    first.write_info("bond-pair", 1000.0)
    (first.path / "sub").mkdir()
    with pytest.raises(RunDirError, match="already running") as refused:
        RunDir.create("m1", tmp_path)
    assert refused.value.running == rundir.RunningMachine(
        "m1", first.path, os.getpid(), "bond-pair", 1000.0
    )
    os.close(first.lock_fd)  # what the death of its owner does
    second = RunDir.create("m1", tmp_path)
    assert list(second.path.iterdir()) == []
    second.remove()


def test_a_machine_that_has_not_said_who_it_is_is_refused_all_the_same(tmp_path: Path) -> None:
    first = RunDir.create("m1", tmp_path)
    with pytest.raises(RunDirError, match="starting or ending"):
        RunDir.create("m1", tmp_path)
    first.remove()


def test_listing_shows_the_running_and_removes_what_the_dead_left(tmp_path: Path) -> None:
    alive, dead = RunDir.create("alive", tmp_path), RunDir.create("dead", tmp_path)
    for made in (alive, dead):
        made.write_info("bond-pair", 5.0)
    os.close(dead.lock_fd)
    assert [m.name for m in running_machines(tmp_path)] == ["alive"]
    assert not dead.path.exists()
    alive.remove()
    assert running_machines(tmp_path) == []
    assert running_machines(tmp_path / "nowhere") == []


def test_a_place_without_room_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / "small", tmp_path / "large"]
    monkeypatch.setattr(rundir, "bases", lambda: places)
    real = os.fstatvfs

    class Full:
        f_bavail = 1
        f_frsize = 4096

    def room(fd: int) -> object:
        return Full() if "small" in os.readlink(f"/proc/self/fd/{fd}") else real(fd)

    monkeypatch.setattr(os, "fstatvfs", room)
    made = RunDir.create("m1", needed_bytes=1 << 20)
    assert made.path == places[1] / "m1"
    made.remove()
    with pytest.raises(RunDirError, match=r"0 MiB free, 1 MiB are needed"):
        RunDir.create("m1", places[0], needed_bytes=1 << 20)


def test_a_base_that_is_a_link_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RunDirError, match="not a directory of ours"):
        RunDir.create("m1", tmp_path / "link")


def test_every_socket_path_fits_and_leads_into_the_directory(tmp_path: Path) -> None:
    for base in (tmp_path / "x", tmp_path / ("y" * 120)):
        made = RunDir.create("m" * 64, base)
        path = made.socket_path("control")
        assert len(path) <= rundir.SOCKET_PATH_BYTES_MAX
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        assert (made.path / "control").is_socket()
        made.remove()
