"""Decisions on the line's own logs: a first version has to be better than what the logs hold."""

from __future__ import annotations

import pytest

from db import lines
from db.session import transaction
from rl.config import LineConfig, Release
from rl.held_out import HeldOut, sets_of
from rl.scoring_config import Judge
from tests.db import chains
from tests.db.judged import HOUR, decide, live, to_decide
from tests.db.trained import states

pytestmark = pytest.mark.usefixtures("fresh")
POLICY = Release(min_probability=0.7, margin=0, min_scenarios=1, strategy="immediate")


@pytest.mark.parametrize(
    ("held", "by"),
    [
        (HeldOut(verifier="m:f", hours=2), "verifier/m:f"),
        (HeldOut(judge=Judge(model="m"), hours=2), "pairwise/m/0"),
    ],
)
@pytest.mark.parametrize(("right", "is_released"), [(0, False), (8, True)])
def test_a_first_version_that_is_worse_than_the_logs_is_not_released(
    held: HeldOut, by: str, right: int, is_released: bool
) -> None:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="b", held_out=held, release=POLICY))
        line = lines.named(session, "main")
        version = chains.add_version(session, line, (4,), HOUR, state="candidate")
        task_set = sets_of([HOUR], held, "logged", known=[])[1]
        chains.judge(session, version, 4, {"logged": (right, 8)}, task_set, by=by)
        name = version.name
    found = decide(to_decide(name))
    assert found["released"] is is_released
    assert live() == ([("stable", name, 100)] if is_released else [])
    with transaction() as session:
        assert states(session)[name] == ("ready" if is_released else "rejected")
