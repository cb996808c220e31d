"""Which lines are answered, from releases, engines and breakers."""

from __future__ import annotations

from db.releases import LineReleases, LiveRelease, NamedVersion
from gateway.outlook import Base, LineOutlook, Outlook, Seen, of_line, outlook
from gateway.probing import OK, REFUSES, SILENT
from gateway.routing import Rules

NONE, SET, STANDS_IN = Base(False, False), Base(True, False), Base(True, True)
WELL = Seen("gpu0", OK, {})
BROKEN = Seen("gpu1", OK, {"v3": 7.4})
REFUSING = Seen("gpu2", REFUSES, {})


def release(stage: str, share: int, number: int) -> LiveRelease:
    return LiveRelease(stage, share, number, f"v{number}", number, "adapter", f"/v{number}", "/base")


def line(*releases: LiveRelease, killed: bool = False) -> LineReleases:
    return LineReleases("main", "base-model", releases, killed)


STABLE = line(release("stable", 100, 3))
CANARY = line(release("canary", 10, 4), release("stable", 100, 3))
HALF = line(release("stable", 50, 3))
NOBODY = "nobody answers for v3 (gpu1 failed it, and is not asked for another 7 s)"


def test_one_engine_that_can_answer_is_enough() -> None:
    assert of_line(STABLE, [REFUSING, BROKEN, WELL], Rules(), NONE) == LineOutlook("ok")
    assert of_line(CANARY, [WELL], Rules(), NONE) == LineOutlook("ok")


def test_an_open_breaker_on_every_engine_leaves_the_version_to_the_base_model_or_nobody() -> None:
    assert of_line(STABLE, [BROKEN], Rules(), NONE) == LineOutlook("unavailable", NOBODY)
    assert of_line(STABLE, [BROKEN], Rules(), SET) == LineOutlook("unavailable", NOBODY)
    assert of_line(STABLE, [BROKEN], Rules(), STANDS_IN) == LineOutlook("degraded", f"{NOBODY}, the base model answers")


def test_what_one_version_breaks_the_other_still_answers() -> None:
    assert of_line(CANARY, [BROKEN], Rules(), NONE) == LineOutlook("degraded", NOBODY)


def test_every_engine_is_told_of() -> None:
    found = of_line(STABLE, [BROKEN, REFUSING], Rules(), NONE)
    assert found.why == f"{NOBODY[:-1]}; gpu2 {REFUSES})"
    assert of_line(STABLE, [], Rules(), NONE).why == "nobody answers for v3 (no engine has announced itself)"


def test_agents_outside_the_share_need_the_base_model() -> None:
    lacks = LineOutlook("degraded", "outside the share, and UPSTREAM_BASE_URL is not set")
    assert of_line(HALF, [WELL], Rules(), NONE) == lacks
    assert of_line(STABLE, [WELL], Rules(rollout_percentage=99.5), NONE) == lacks
    assert of_line(HALF, [WELL], Rules(), SET) == LineOutlook("ok")


def test_a_release_that_no_agent_gets_is_not_missed() -> None:
    covered = line(release("canary", 50, 4), release("stable", 50, 3))
    assert of_line(covered, [BROKEN], Rules(), SET) == LineOutlook("ok")


def test_a_line_that_is_to_have_no_version_is_idle() -> None:
    for idle, rules in ((line(), Rules()), (STABLE, Rules(use_rl_model=False)), (line(killed=True), Rules())):
        found = of_line(idle, [WELL], rules, NONE)
        assert (found.status, found.why.split(", ")[1]) == ("idle", "and UPSTREAM_BASE_URL is not set")
        assert of_line(idle, [WELL], rules, STANDS_IN) == LineOutlook("ok")
    assert of_line(line(), [WELL], Rules(), SET).why == "no released version, and RL_FALLBACK_TO_BASE is off"
    assert of_line(line(killed=True), [WELL], Rules(), SET) == LineOutlook("ok"), "it is no fallback"


def test_a_pin_that_cannot_be_used_stops_the_line() -> None:
    rules = Rules(pin="v9", pinned=NamedVersion(9, "v9", "candidate", None, "main", "base", "adapter", "/v9"))
    found = of_line(STABLE, [WELL], rules, STANDS_IN)
    assert found.status == "unavailable"
    assert found.why.startswith("RL_MODEL_VERSION = 'v9': it is candidate")


def test_one_line_of_many_is_not_all() -> None:
    other = LineReleases("other", "base-model", (release("stable", 100, 5),))
    found = outlook({"main": STABLE, "other": other, "new": line()}, [BROKEN], Rules(), NONE)
    assert ([one.status for one in found.lines.values()], found.is_hopeless) == (["unavailable", "ok", "idle"], False)
    assert found.why == f"line main: {NOBODY}"
    assert outlook({"main": STABLE, "new": line()}, [BROKEN], Rules(), NONE).is_hopeless
    assert not outlook({"new": line()}, [WELL], Rules(), NONE).is_hopeless, "nothing is wrong"


def test_the_engines_are_told_of_until_one_answers() -> None:
    silent = Seen("gpu3", SILENT, {})
    assert Outlook([REFUSING, silent], {}).lacks_engine == f"gpu2 {REFUSES}; gpu3 does not answer"
    assert Outlook([REFUSING, BROKEN], {}).lacks_engine == ""


def test_what_is_shown() -> None:
    shown = outlook({"main": STABLE}, [BROKEN, REFUSING], Rules(), NONE).shown()
    assert shown["engines"] == {"gpu1": "ok", "gpu2": REFUSES}
    assert shown["breakers"] == {"v3": {"gpu1": 7.4}}
    assert shown["lines"]["main"]["status"] == "unavailable"


def test_an_upstream_answers_for_its_kinds_of_checkpoints_alone() -> None:
    wandb = Seen("wandb", OK, {}, frozenset({"remote"}), is_upstream=True, limited="limited for another 3 s")
    theirs = LiveRelease("stable", 100, 3, "v3", 3, "remote", "wandb-artifact:///team/project/agent:step3", "/base")

    found = outlook({"main": line(theirs), "other": STABLE}, [wandb], Rules(), NONE)
    assert found.lines["main"] == LineOutlook("ok"), "who is full for a moment is not gone"
    assert found.lines["other"].why == "nobody answers for v3 (no engine has announced itself)"
    assert found.shown()["upstreams"] == {"wandb": "limited for another 3 s"}
    assert found.shown()["engines"] == {}
    assert of_line(line(theirs), [WELL], Rules(), NONE).why == "nobody answers for v3 (no upstream serves it)"
