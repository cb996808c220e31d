"""``rlfleet explain``: a window, a dataset or a version, back to every trajectory and score."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from fleet.terminal import AsJson, connect, wide_console

if TYPE_CHECKING:
    from db.lineage import Lineage

SHORT = 12
"""So many hex digits of a hash are shown; ``--json`` has all of them."""


def explain(
    name: Annotated[
        str, typer.Argument(help="a window, the number of a dataset, or a version; v1.0.3 of the line too")
    ],
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    everything: Annotated[bool, typer.Option("--all", help="all there is, not the first 20 trajectories")] = False,
    as_json: AsJson = False,
) -> None:
    """What a window, a dataset or a version is made of, and what became of it."""
    from db import lineage
    from db.session import transaction

    connect()
    with transaction() as session:
        found = lineage.explain(session, name, line, None if everything else lineage.NAMED)
    if as_json:
        typer.echo(json.dumps({"schema": 1, **asdict(found)}))
    else:
        wide_console().print(tree(found))


def tree(found: Lineage) -> Tree:
    """What ``--json`` prints as one object, for people."""
    root = _node(f"{found.kind} {found.name} of line {found.line}")
    for one in found.versions:
        _version(root, one)
    for one in found.datasets:
        words = f"dataset {one['id']} sha256 {one['sha256'][:SHORT]}: {one['trajectories']} trajectories"
        erased = f", some erased {one['erased_at']}" if one["erased_at"] else ""
        _add(root, f"{words} in {one['groups']} groups, frozen {one['created_at']} by job {one['job_id']}{erased}")
    if older := found.counts["datasets"] - len(found.datasets):
        _add(root, f"and {older} older datasets; --all names them")
    if found.windows:
        _list(root, "windows", [*map(_window, found.windows), *_more(found, "windows", found.windows)])
    if found.quarantined_rows:
        _unusable(root, found)
    _counts(root, "left out", found.left_out)
    _list(root, "decisions", [_decision(one) for one in found.decisions])
    _list(root, "releases", [_release(one) for one in found.releases])
    _trajectories(root, found)
    return root


def _version(root: Tree, one: dict[str, Any]) -> None:
    node = _add(root, f"version {one['name']}: {one['state']}{_because(one)}")
    job = f"job {one['job_id']} {one['job_state']}, attempt {one['attempt']}, fence {one['fence']}"
    _add(node, f"{job}, objective {one['config'].get('objective', 'unknown')}, {one['created_at']}")
    _add(node, f"parent {one['parent'] or 'none'}, base {one['base_model']}")
    _add(node, f"checkpoint {one['kind']} of step {one['step']}, sha256 {one['sha256'][:SHORT]}: {one['uri']}")
    if one["adjust"]:
        _add(node, f"changed because memory ran out: {json.dumps(one['adjust'])}")
    if one["erased_at"]:
        _add(node, f"trajectories it learned from were erased {one['erased_at']}")


def _window(one: dict[str, Any]) -> str:
    counts = f"{one['trajectories']} trajectories, {one['groups']} groups, {one['scored']} scored"
    return f"{one['name']} {one['state']}{_because(one)}: {counts}, {one['quarantined']} quarantined"


def _unusable(root: Tree, found: Lineage) -> None:
    """What is wrong with rows, and one of each kind."""
    rows = found.quarantined_rows
    words = [f"{one['count']} {one['field']}: {one['reason']} ({one['row']})" for one in rows]
    _list(root, f"quarantined: {found.counts['quarantined']}", [*words, *_more(found, "quarantined_kinds", rows)])


def _more(found: Lineage, what: str, listed: list[Any]) -> list[str]:
    more = found.counts[what] - len(listed)
    return [f"and {more} more; --all names them"] if more else []


def _decision(one: dict[str, Any]) -> str:
    verb = "released" if one["released"] else "rolled back" if one["policy"] == "rollback" else "not released"
    who = f" by {one['actor']}" if one["actor"] else ""
    unseen = ", unevaluated" if one["evidence"].get("evaluated") is False else ""
    words = f"{one['version']} {verb}{who} over {one['stable'] or 'none'}{unseen}: {one['reason']} ({one['policy']})"
    return words + _approval(one)


def _approval(one: dict[str, Any]) -> str:
    if one["approval"] is None:
        return ""
    if one["approval"] == "waiting":
        return f"; waits for approval: rlfleet approve {one['version']}"
    if one["approval"] == "superseded":
        return "; superseded before anybody approved it"
    word = "approved" if one["approval"] == "given" else "refused"
    return f"; {word} by {one['approved_by']} {one['approved_at']}"


def _release(one: dict[str, Any]) -> str:
    until = one["ended_at"] or "now"
    stage = f"canary, stage {one['place'] + 1}," if one["stage"] == "canary" else one["stage"]
    ended = f"; ended: {one['ended_reason']}" if one["ended_reason"] else ""
    return f"{one['version']} {stage} {one['share']} % {one['created_at']} to {until}: {one['reason']}{ended}"


def _trajectories(root: Tree, found: Lineage) -> None:
    node = _add(root, f"trajectories: {found.trajectory_count}")
    groups: dict[str, Tree] = {}
    for one in found.trajectories:
        if one["group"] not in groups:
            groups[one["group"]] = _add(node, f"group {one['group']}")
        _add(groups[one["group"]], _trajectory(one))
    if more := found.trajectory_count - len(found.trajectories):
        _add(node, f"and {more} more; --all names them")


def _trajectory(one: dict[str, Any]) -> str:
    if one["erased_at"]:
        words = "removed by retention" if one["by_retention"] else "erased"
        return f"{one['trajectory_id']}: {words} {one['erased_at']}"
    spoke = ", ".join(one["models"]) or "nobody"
    return f"{one['trajectory_id']}: {_score(one)}; agent {one['agent_id']}, spoken by {spoke}, from {one['source']}"


def _score(one: dict[str, Any]) -> str:
    if one["score"] is None:
        return "no score"
    words = f"score {one['score']:g}"
    if one["score_id"] is None:
        return f"{words} (row not recorded)"
    words += f" by {one['method']} {one['method_version']} (row {one['score_id']}"
    words += f", judge {one['judge']}" if one["judge"] else ""
    words += f", rubric {one['rubric_hash'][:SHORT]}" if one["rubric_hash"] else ""
    return words + (f", cost {one['cost']:g})" if one["cost"] is not None else ")")


def _counts(root: Tree, title: str, counts: dict[str, int]) -> None:
    if counts:
        _list(root, f"{title}: {sum(counts.values())}", [f"{count} {reason}" for reason, count in counts.items()])


def _list(root: Tree, title: str, several: list[str]) -> None:
    if several:
        node = _add(root, title)
        for one in several:
            _add(node, one)


def _because(one: dict[str, Any]) -> str:
    return f" ({one['reason']})" if one["reason"] else ""


def _node(words: str) -> Tree:
    """Its words are shown as they are: names and reasons come from outside, and are no markup."""
    return Tree(Text(words))


def _add(node: Tree, words: str) -> Tree:
    return node.add(Text(words))
