"""``docs/security.md``: each threat names what meets it and a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
THREATS = [
    [cell.strip() for cell in row.strip("|").split(" | ")]
    for row in re.findall(r"^\|(?! threat |---).*\|$", PAGE.partition("\n## Threats\n")[2].partition("\n## ")[0], re.M)
]


def test_there_are_threats_from_every_side() -> None:
    assert len(THREATS) >= 30
    assert PAGE.count("\n### From ") == 4


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0])
def test_each_threat_is_met_and_held(row: list[str]) -> None:
    threat, met, held = row
    assert threat
    assert met
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held)
    assert named, threat
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(?:async )?def {name}\(", text, re.M), f"{file} has no {name}"
