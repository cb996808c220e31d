"""What the verdicts of checkpoints add up to: counts by task set, judge and prompt, as the planner needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rl.health import BROKEN_OUTPUT, LIMIT_REACHED
from rl.line_state import Part, Result, of_halves

ONCE = f"""
    select distinct on (e.checkpoint_sha256, e.task_set_hash, e.judge, e.prompt_hash, v.scenario_id, v.sample)
           e.id, e.checkpoint_sha256, e.task_set_hash, e.judge, e.prompt_hash, v.scenario_id, v.sample,
           coalesce(nullif(v.type, ''), e.task_set ->> 'environment', 'logged') as type,
           e.task_set ->> 'environment' is null as logged,
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
    with once as (
        select *, case when rival_right is null then 2 * "right"::int else 1 + "right"::int - rival_right::int end
                  as halves
          from ({ONCE}) each
    ), scenarios as (
        select checkpoint_sha256, task_set_hash, judge, prompt_hash, scenario_id, max(id) as newest,
               sum(halves) as successes, count("right") as n, count(*) as asked, bool_or(logged) as logged,
               max(count(*)) over (partition by checkpoint_sha256, task_set_hash, judge, prompt_hash) as samples,
               (array_agg(type order by "right" is null, sample desc))[1] as type,
               sum(turns) filter (where "right" is not null) as turns,
               count(*) filter (where broken) as broken, count(*) filter (where at_limit) as at_limit
          from once group by checkpoint_sha256, task_set_hash, judge, prompt_hash, scenario_id
    ), kinds as (
        select checkpoint_sha256, task_set_hash, judge, prompt_hash, type,
               coalesce(sum(halves), 0) as successes, count("right") as n
          from once group by checkpoint_sha256, task_set_hash, judge, prompt_hash, type
    ), types as (
        select checkpoint_sha256, task_set_hash, judge, prompt_hash,
               jsonb_object_agg(type, jsonb_build_array(successes, n)) as types
          from kinds group by checkpoint_sha256, task_set_hash, judge, prompt_hash
    )
    select checkpoint_sha256, task_set_hash, judge, prompt_hash, types, max(newest) as newest,
           coalesce(sum(successes), 0)::int as successes, sum(n)::int as n, coalesce(sum(turns), 0)::bigint as turns,
           md5(string_agg(scenario_id, E'\\n' order by scenario_id)) as scenarios,
           array_agg(case when n = asked then successes::int end order by scenario_id)
               filter (where not logged or asked = samples) as by_scenario,
           array_agg(hashtextextended(scenario_id, 0) order by scenario_id)
               filter (where logged and asked = samples) as ids,
           array_agg(type order by scenario_id) filter (where logged and asked = samples) as kinds,
           sum(broken)::int as broken, sum(at_limit)::int as at_limit
      from scenarios join types using (checkpoint_sha256, task_set_hash, judge, prompt_hash)
     group by checkpoint_sha256, task_set_hash, judge, prompt_hash, types
""")  # noqa: S608 (of constants)
"""Scenarios are in the order of their ids, whatever their types: another evaluation may name these otherwise. Those of
logs are there once all samples were asked about them: samples are asked one by one, and each may find more."""

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
    sums = {_key(row[:4]): row for row in session.execute(SUMS, {"hashes": list(hashes), "task_set": None})}
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for one, shards in parts.items():
        found[one[0]][one[1]].append(_result(one, sums.get(one), tuple(shards)))
    return {sha: {task_set: _newest_first(group) for task_set, group in sets.items()} for sha, sets in found.items()}


def _key(parts: Sequence[Any]) -> Key:
    sha, task_set, judge, prompt = parts
    return str(sha), str(task_set), str(judge), str(prompt)


def _result(key: Key, sums: Row[Any] | None, parts: tuple[Part, ...]) -> Result:
    known = Result(k=0, n=0, turns=None, parts=parts, judge=key[2], prompt_hash=key[3])
    if sums is None:
        return known
    return replace(
        known,
        k=of_halves(sums.successes),
        n=sums.n,
        turns=sums.turns / sums.n if sums.n else None,
        types={name: (of_halves(halves), n) for name, (halves, n) in sorted(sums.types.items())},
        newest=sums.newest,
        scenarios=sums.scenarios,
        successes=tuple(sums.by_scenario or ()),
        ids=tuple(sums.ids or ()),
        kinds=tuple(sums.kinds or ()),
        broken=sums.broken,
        at_limit=sums.at_limit,
    )


def _newest_first(group: list[Result]) -> Result:
    newest, *earlier = sorted(group, key=lambda one: one.newest, reverse=True)
    return replace(newest, earlier=tuple(earlier))
