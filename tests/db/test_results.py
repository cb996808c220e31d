"""What the verdicts of checkpoints add up to, where two evaluations name the types of the same scenarios otherwise."""

from __future__ import annotations

import pytest
from scipy.special import betaincinv

from db import evaluation_counts, results, version_views, versions
from db.session import transaction
from db.tables import Line
from rl.choosing import ByScenario
from rl.config import digest
from rl.line_state import Result
from rl.paired import bootstrap_better
from rl.selection import Candidate
from tests.db.test_evaluations import FOUR, LOGS, TWICE, add, judge, line, several, verdict

__all__ = ["line"]

pytestmark = pytest.mark.usefixtures("fresh")


def of(*hashes: str, task_set: object = FOUR) -> list[Result]:
    with transaction() as session:
        found = results.results(session, hashes)
    return [found[one][digest(task_set)] for one in hashes]


def test_the_same_scenarios_are_paired_whatever_their_types(line: Line) -> None:
    judge(line, add(line, "one"), several("++--"))
    renamed = [verdict("d", True, type="new"), verdict("b", True, type="z"), verdict("a", False, type="z")]
    judge(line, add(line, "two"), [*renamed, verdict("c", True, type="new")])
    one, two = of("one", "two")
    assert (one.types, two.types) == ({"grid": (2, 4)}, {"new": (2, 2), "z": (1, 2)})
    assert one.scenarios == two.scenarios
    assert (one.successes, two.successes) == ((2, 2, 0, 0), (0, 2, 2, 2)), "of a, b, c and d"
    first, second = (Candidate(step=step, types=dict(found.types)) for step, found in enumerate((one, two)))
    paired = ByScenario({0: one, 1: two}).better(second, first)
    assert paired == pytest.approx(bootstrap_better([-1, 0, 1, 1]))


def test_a_verdict_that_is_missing_has_no_type_and_keeps_its_place(line: Line) -> None:
    judge(line, add(line, "one"), several("+++-", type="far"))
    judge(line, add(line, "two"), [*several("+++", type="far"), verdict("d", None, type="")])
    one, two = of("one", "two")
    assert (one.types, two.types) == ({"far": (3, 4)}, {"far": (3, 3), "grid": (0, 0)})
    assert (one.scenarios, one.successes) == (two.scenarios, (2, 2, 2, 0))
    assert (two.successes, two.k, two.n, two.turns) == ((2, 2, 2, None), 3, 3, 2.0)


def test_a_scenario_one_of_whose_samples_is_missing_is_no_scenario_of_another_type(line: Line) -> None:
    name = add(line, "one")
    judge(line, name, several("++", type="far"), TWICE)
    judge(line, name, [verdict("a", None, 1, type=""), verdict("b", False, 1, type="far")], TWICE, sample=1)
    (found,) = of("one", task_set=TWICE)
    assert (found.k, found.n, found.successes) == (2, 3, (None, 2))
    assert found.types == {"far": (2, 3), "grid": (0, 0)}


def test_a_scenario_of_logs_is_there_once_all_samples_were_asked_about_it(line: Line) -> None:
    twice = LOGS.model_copy(update={"samples": 2})
    name = add(line, "one")
    judge(line, name, several("+++"), twice, against="logged")
    judge(line, name, [verdict(scenario, True, 1) for scenario in "ab"], twice, sample=1, against="logged")
    (found,) = of("one", task_set=twice)
    assert (len(found.ids), len(found.kinds), found.successes) == (2, 2, (4, 4)), "of a and b, not of c"
    assert [part.size for part in found.parts] == [3, 2]


def test_ties_with_another_version_are_half_a_success_in_each_type(line: Line) -> None:
    name = add(line, "one")
    sides = [("a", True, True, "x"), ("b", False, False, "x"), ("c", True, False, "y"), ("d", False, True, "y")]
    verdicts = [verdict(scenario, right, rival_right=rival, type=kind) for scenario, right, rival, kind in sides]
    judge(line, name, verdicts, LOGS, against="logged")
    (found,) = of("one", task_set=LOGS)
    assert (found.k, found.n, found.successes) == (2, 4, (1, 1, 2, 0))
    assert found.types == {"x": (1, 2), "y": (1, 2)}


def test_an_odd_number_of_ties_keeps_its_half(line: Line) -> None:
    name = add(line, "one")
    judge(line, name, several("+++", rival_right=True, type="x"), LOGS, against="logged")
    (found,) = of("one", task_set=LOGS)
    assert (found.k, found.n, found.types) == (1.5, 3, {"x": (1.5, 3)})
    low, high = betaincinv(2.5, 2.5, (0.1, 0.9))
    with transaction() as session:
        version = versions.named(session, name)[0]
        (told,) = evaluation_counts.of_version(session, version)
        (seen,) = version_views.weighed(session, name)[0][0].judged
    for one in (told.overall, told.types["x"], seen.count, seen.types["x"]):
        assert one is not None
        assert (one.k, one.n, one.low, one.high) == (
            1.5,
            3,
            pytest.approx(low, abs=1e-6),
            pytest.approx(high, abs=1e-6),
        )


def test_without_a_verdict_row_there_is_nothing(line: Line) -> None:
    judge(line, add(line, "one"), [], LOGS, against="logged")
    (found,) = of("one", task_set=LOGS)
    assert (found.k, found.n, found.types, found.successes, found.turns) == (0, 0, {}, (), None)
