"""A mapping file says what is wrong with it, and shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

import sources
from rl.errors import InvalidInput
from tests.sources.mappings import RUNS


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        ('agent = "who"', 'agnet = "who"', "columns.agnet: Extra inputs are not permitted"),
        ('ended = "done"', "", "columns.ended: Field required"),
        ('messages = "talk"', "", "columns: Value error, give messages, or prompt and response"),
        ('messages = "talk"', 'prompt = "talk"', "columns: Value error, give messages, or prompt and response"),
        ('messages = "talk"', 'messages = "talk"\nsystem = "x"', "give either messages, or prompt with system"),
        ('messages = "talk"', 'messages = "talk"\nlogprobs = "x"', "belong to one response: give all four, or none"),
        ("[columns]", 'rows = "call"\n[columns]', 'rows = "call" needs columns.order and columns.response'),
        ("[columns]", "[columns", "no TOML: "),
        ('"LOGS_URL"', '"postgresql://bob:hunter2@db/x"', "variable: String should match pattern"),
        ('"LOGS_URL"', '"UNSET_URL"', "the environment variable UNSET_URL is not set"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(tmp_path: Path, old: str, new: str, remedy: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(RUNS.replace(old, new, 1))
    with pytest.raises(InvalidInput) as caught:
        sources.connect(f"table://{path}")
    assert remedy in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such mapping file; give an absolute path after table://"):
        sources.connect(f"table://{tmp_path}/none.toml")
