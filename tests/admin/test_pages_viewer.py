"""The trajectory viewer: the numbers of a known database, and texts that try to be markup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.looked import EVIL, HOUR, NEXT, V0, V1, Site, site


@pytest.fixture(scope="module")
def shown(database: str) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def test_groups_stand_beside_each_other_with_score_reward_and_advantage(shown: Site) -> None:
    found = shown.page(f"/trajectories?line=main&window={HOUR}")
    assert "5 trajectories in 2 groups" in found.text
    # (1, 0, 0.5): mean 0.5 and unbiased deviation 0.5.
    assert found.row("a1")[1:] == ["1 judge", "1", "+1.000", "2", "9 + 5", V0, "success"]
    assert found.row("a2")[1:4] == ["0 judge", "0", "-1.000"]
    assert found.row("a3")[3] == "+0.000 no advantage in its group"
    # b2 was left out as too long, so that b1 is alone.
    assert found.row("b1")[3] == "+0.000 no advantage in its group"
    assert found.row("b2")[3] == "left out longer than the context"
    assert found.rows[-1][:2] == ["2", "reward"]


def test_one_scenario_alone_and_windows_that_are_not_there(shown: Site) -> None:
    found = shown.page(f"/trajectories?line=main&window={HOUR}&scenario=s/b")
    assert "2 trajectories in 1 groups" in found.text
    assert [row[0] for row in found.rows if row[0] in ("a1", "b1", "b2")] == ["b1", "b2"]
    assert f"Window {NEXT} of line main" in shown.page("/trajectories").text
    for path in ("?line=nobody", "?window=2025-01-15T23:00", "?window=never", "?line=main&window=%00"):
        assert shown.viewer.get(f"/trajectories{path}").status_code in (404, 422)


def test_a_trajectory_is_a_conversation_with_trained_and_masked_tokens(shown: Site) -> None:
    found = shown.page("/trajectories/a1")
    assert "Tokens 9 of prompts + 5 of answers" in found.text
    assert f"Learned from by {V1}" in found.text
    assert "It was sent 3 messages as they stand above, then: tool t1 bought 3" in found.text
    # One of each is the legend's. The second prompt repeats three tokens of the first and its answer's two.
    kinds = {kind: found.count("span", cls=f"tok {kind}") - 1 for kind in ("trained", "masked", "repeated")}
    assert kinds == {"trained": 5, "masked": 4, "repeated": 5}
    assert "Prompt: 6 tokens, masked; the first 5 are in an earlier turn's sequence. Answer: 3 tokens" in found.text
    assert "31 -0.25 32 -0.25 33 -0.25" in found.text
    assert "Tool call buy" in found.text


def test_scores_datasets_and_the_group_stand_beside_it(shown: Site) -> None:
    found = shown.page("/trajectories/a1")
    score = next(row for row in found.rows if row[0] == "1 counts")
    assert score[1:4] == ["judge gpt-4o-mini, cost 0.125", "7 rubric rrrrrrrrrrrr", f"fine {EVIL}"]
    dataset = next(row for row in found.rows if "grpo" in row)
    assert dataset[1:] == [f"{HOUR} s/a judge", "1", "+1.000", "grpo", V1]
    assert found.text.index("This one") < found.text.index("a2", found.text.index("This one"))
    assert "I say a2" in found.text
    assert "I say b1" not in found.text
    left = shown.page("/trajectories/b2")
    assert f"{V1}, which did not learn from it" in left.text
    assert "Learned from by no version" in left.text


def test_another_models_calls_have_no_tokens(shown: Site) -> None:
    found = shown.page("/trajectories/z1")
    assert "none are stored: another model spoke" in found.text
    assert "A training that clones it trains on the answer's text" in found.text
    assert "No dataset holds it" in found.text
    assert "/versions/gpt-4o" not in found.hrefs()
    assert found.count("span", cls="tok trained") == 1


def test_what_agents_wrote_is_never_markup(shown: Site) -> None:
    for path in ("/trajectories/a1", f"/trajectories?window={HOUR}", "/trajectories/z1"):
        found = shown.page(path)
        assert EVIL in found.text
        assert [one for tag, one in found.tags if tag == "script"] == [{"src": "/static/app.js", "defer": ""}]
        assert not [one for _, one in found.tags if "style" in one or "onclick" in one]


def test_what_is_not_there_is_not_found(shown: Site) -> None:
    for path in ("/trajectories/nobody", "/trajectories/run/demo/0001/9"):
        assert shown.viewer.get(path).status_code == 404
    assert shown.viewer.get("/trajectories/a1?page=0").status_code == 422
    assert "No call of it is stored" in shown.page("/trajectories/a1?page=9").text
