"""What the verdicts of checkpoints add up to: counts by task set, judge and prompt, as the planner needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rl.config import digest
from rl.health import BROKEN_OUTPUT, LIMIT_REACHED
from rl.line_state import Part, Result

ONCE = f"""
    select distinct on (e.checkpoint_sha256, e.task_set_hash, e.judge, e.prompt_hash, v.scenario_id, v.sample)
           e.id, e.checkpoint_sha256, e.task_set_hash, e.judge, e.prompt_hash, v.scenario_id, v.sample,
           coalesce(nullif(v.type, ''), e.task_set ->> 'environment', 'logged') as type,
           v."right", v.rival_right, v.turns,
           v."right" is not null and starts_with(v.reason, '{BROKEN_OUTPUT}') as broken,
           v."right" is not null and e.judge = 'environment' and v.reason like '%{LIMIT_REACHED}' as at_limit
      from rlfleet.evaluations e join rlfleet.verdicts v on v.evaluation_id = e.id
     where e.checkpoint_sha256 = any(:hashes) and (:task_set is null or e.task_set_hash = :task_set)
     order by e.checkpoint_sha256, e.task_set_hash, e.judge, e.prompt_hash, v.scenario_id, v.sample,
              v."right" is null, e.id
"""  # noqa: S608 (of constants)
"""Every scenario and sample once, by its first verdict: shards of different sizes may overlap. A scenario without a
type of its own has its environment's name."""

SUMS = text(f"""
    with once as ({ONCE}), scenarios as (
        select checkpoint_sha256, task_set_hash, judge, prompt_hash, type, scenario_id, max(id) as newest,
               sum(case when rival_right is null then 2 * "right"::int else 1 + "right"::int - rival_right::int end)
                   as successes,
               count("right") as n, count(*) as asked, sum(turns) filter (where "right" is not null) as turns,
               count(*) filter (where broken) as broken, count(*) filter (where at_limit) as at_limit
          from once group by checkpoint_sha256, task_set_hash, judge, prompt_hash, type, scenario_id
    )
    select checkpoint_sha256, task_set_hash, judge, prompt_hash, type, max(newest), sum(successes)::int, sum(n)::int,
           sum(turns)::bigint, md5(string_agg(scenario_id, E'\\n' order by scenario_id)),
           array_agg(case when n = asked then successes::int end order by scenario_id),
           sum(broken)::int, sum(at_limit)::int
      from scenarios group by checkpoint_sha256, task_set_hash, judge, prompt_hash, type
     order by checkpoint_sha256, task_set_hash, judge, prompt_hash, type
""")  # noqa: S608 (of constants)

PARTS = text("""
    select checkpoint_sha256, task_set_hash, judge, prompt_hash, sample, first, n + missing, missing
      from rlfleet.evaluations where checkpoint_sha256 = any(:hashes) order by id
""")

Key = tuple[str, str, str, str]
"""Checkpoint hash, digest of the task set, judge, prompt hash."""


def results(session: Session, hashes: Sequence[str]) -> dict[str, dict[str, Result]]:
    """What is known of the checkpoints, by their hash and the digest of the task set; see ``Result.earlier``."""
    if not hashes:
        return {}
    parts: dict[Key, list[Part]] = defaultdict(list)
    for *key, sample, first, size, missing in session.execute(PARTS, {"hashes": list(hashes)}):
        parts[_key(key)].append(Part(sample, first, size, missing))
    types: dict[Key, list[Any]] = defaultdict(list)
    for *key, name, newest, successes, n, turns, ids, scenarios, broken, at_limit in session.execute(
        SUMS, {"hashes": list(hashes), "task_set": None}
    ):
        types[_key(key)].append((name, newest, successes or 0, n, turns, ids, scenarios, broken, at_limit))
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for one, shards in parts.items():
        found[one[0]][one[1]].append(_result(one, types[one], tuple(shards)))
    return {sha: {task_set: _newest_first(group) for task_set, group in sets.items()} for sha, sets in found.items()}


def _key(parts: Sequence[Any]) -> Key:
    sha, task_set, judge, prompt = parts
    return str(sha), str(task_set), str(judge), str(prompt)


def _result(key: Key, types: Sequence[Any], parts: tuple[Part, ...]) -> Result:
    n, turns = sum(one[3] for one in types), sum(one[4] or 0 for one in types)
    return Result(
        k=sum(one[2] for one in types) // 2,
        n=n,
        turns=turns / n if n else None,
        types={one[0]: (one[2] // 2, one[3]) for one in types},
        parts=parts,
        judge=key[2],
        prompt_hash=key[3],
        newest=max((one[1] for one in types), default=0),
        scenarios=digest([(one[0], one[5]) for one in types]),
        successes=tuple(successes for one in types for successes in one[6]),
        broken=sum(one[7] for one in types),
        at_limit=sum(one[8] for one in types),
    )


def _newest_first(group: list[Result]) -> Result:
    newest, *earlier = sorted(group, key=lambda one: one.newest, reverse=True)
    return replace(newest, earlier=tuple(earlier))
