"""The README shows what the program prints, not what somebody typed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from orchestrator.verbs import TABLE
from tools import readme


def test_the_followed_ping_is_what_the_program_prints() -> None:
    text = readme.README.read_text()
    assert readme.with_listing(text, readme.followed()) == text, "run: python -m tools.readme"


def test_the_picture_can_be_drawn_and_shows_the_dead_nic(tmp_path: Path) -> None:
    picture = tmp_path / "overview.svg"
    readme.draw(picture)
    words = "".join(ET.parse(picture).getroot().itertext()).replace("\xa0", " ")
    assert "DEAD" in words
    assert "mend: restart eth0" in words
    assert readme.PICTURE.exists()


def test_every_verb_the_readme_names_exists() -> None:
    named = re.findall(r"(?:bottomhalf|bh) ([a-z]+)", readme.README.read_text())
    assert len(named) > 10
    assert [verb for verb in named if verb not in TABLE] == []
