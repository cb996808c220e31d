"""The real Prometheus scrapes the admin server by our configuration, and answers what rules and dashboard ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from admin.metrics import NAMES
from db import engines, lines, mirrors, pauses
from db.session import transaction
from tests.admin.scraper import DOCKER, PATIENCE, Prometheus, promtool, scraping, wait_until
from tests.admin.shown import Shown, shown
from tests.admin.test_dashboards import dashboard, rules
from tests.db import traffic
from tests.tasks.rows import asked, rows

pytestmark = pytest.mark.slow

__all__ = ["shown"]
QUERIES = sorted({target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())})
OWN = re.compile("rlfleet_.*")


@pytest.fixture(scope="module")
def prometheus(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a fleet of which every metric has something to say."""
    with transaction() as session:
        engines.announce(session, "gpu0", "http://127.0.0.1:9", "gpu0", 4711)
        traffic.call(session, "a trajectory", shown.story.version, traffic.hours_ago(session, 0.1))
        mirrors.failed(session, "wandb", "training", 7, "no answer")
        line = lines.named(session, "main").id
    rows("update rlfleet.checkpoints set metrics = metrics || '{\"tokens_per_second\": 1234.5}' returning 1")
    pauses.pause("evaluate", "a test")
    asked(line)
    with scraping(shown.url, shown.viewer, tmp_path_factory.mktemp("prometheus")) as made:
        yield made


def test_the_target_is_up(prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.target("rlfleet")["health"] == "up")
    wait_until(lambda: prometheus.target("flower")["health"] == "down")


def test_every_metric_is_scraped_with_the_type_that_the_page_says(prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.result('up{job="rlfleet"} == 1'))
    assert {name for name in prometheus.get("label/__name__/values") if OWN.fullmatch(name)} == NAMES
    page = (DOCKER.parent / "docs/monitoring.md").read_text()
    told = dict(re.findall(r"^\| `(rlfleet_\w+)` \| (\w+) \|", page, re.MULTILINE))
    known = {one["metric"]: one["type"] for one in prometheus.get("targets/metadata") if OWN.fullmatch(one["metric"])}
    assert known == {name.removesuffix("_total"): kind for name, kind in told.items()}, "as OpenMetrics names counters"


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, query: str) -> None:
    """With all lines chosen, and with two of them, as Grafana writes that."""
    for chosen in {query.replace("$line", values) for values in (".*", "(main|shop)")}:
        assert "$" not in chosen
        wait_until(partial(prometheus.result, chosen))


def test_the_dashboard_offers_the_lines(prometheus: Prometheus) -> None:
    (asks,) = [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", asks)
    assert found
    assert wait_until(lambda: prometheus.get(f"label/{found[2]}/values", **{"match[]": found[1]})) == ["main", "shop"]


def test_each_rule_is_evaluated(prometheus: Prometheus) -> None:
    def healths() -> dict[str, str]:
        (group,) = prometheus.get("rules")["groups"]
        return {rule["name"]: rule["health"] for rule in group["rules"]}

    wait_until(lambda: "unknown" not in healths().values())
    assert healths() == {rule["alert"]: "ok" for rule in rules()}


def test_a_kind_that_is_paused_fires_its_alert(prometheus: Prometheus) -> None:
    def firing() -> list[dict[str, dict[str, str]]]:
        known = [one for one in prometheus.get("alerts")["alerts"] if one["state"] == "firing"]
        return [one for one in known if one["labels"]["alertname"] == "RlfleetKindPaused"]

    (alert,) = wait_until(firing)
    assert (alert["labels"]["kind"], alert["labels"]["severity"]) == ("evaluate", "critical")
    assert alert["annotations"]["action"] == "Find what they have in common; then `rlfleet jobs resume evaluate`."


def test_a_new_token_in_the_file_counts_from_the_next_scrape(prometheus: Prometheus, shown: Shown) -> None:
    file = prometheus.folder / "rlfleet_token"
    file.write_text("revoked\n")
    wait_until(lambda: "401 Unauthorized" in prometheus.target("rlfleet")["lastError"])
    wait_until(lambda: prometheus.result('up{job="rlfleet"} == 0'))
    file.write_text(shown.viewer + "\n")
    wait_until(lambda: prometheus.target("rlfleet")["health"] == "up")


def test_promtool_finds_nothing_wrong_with_a_scrape(prometheus: Prometheus, shown: Shown) -> None:
    assert promtool("check", "config", str(prometheus.folder / "prometheus.yml")).returncode == 0
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        answer = client.get(f"{shown.url}/metrics", headers={"Authorization": f"Bearer {shown.viewer}"})
    run = promtool("check", "metrics", given=answer.text)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
