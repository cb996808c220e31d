"""What Prometheus and Grafana are told names metrics and labels that a scrape shows."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.metrics import GAUGES, NAMES

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
LABELS = {gauge.name: set(gauge.labels) for gauge in GAUGES} | {
    "rlfleet_messages_total": {"kind", "outcome"},
    "rlfleet_jobs_ended_total": {"kind", "outcome"},
    "rlfleet_leases_lost_total": {"kind"},
    "rlfleet_job_recovery_seconds_count": {"kind"},
    "rlfleet_job_recovery_seconds_sum": {"kind"},
}
MUST_WARN_OF = {
    "rlfleet_queue_oldest_due_seconds",
    "rlfleet_jobs_ended_total",
    "rlfleet_queue_capacity",
    "rlfleet_job_heartbeat_lag_seconds",
    "rlfleet_gpu_idle_queued_seconds",
    "rlfleet_canary_unwatched_seconds",
    "rlfleet_alert_oldest_waiting_seconds",
    "rlfleet_alerts_last_day",
}
METRIC = re.compile(r"\b(rlfleet_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCKER / "grafana/rlfleet.json").read_text())
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_each_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    found = METRIC.findall(expression)
    assert found or expression.startswith("up{")
    for name, chosen in found:
        assert name in NAMES
        assert set(re.findall(r"(\w+)\s*[=!]", chosen)) <= LABELS[name]
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    assert all(grouped <= LABELS[name] for name, _ in found)
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_what_labels_a_text_shows_its_expression_has() -> None:
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        (name, *_) = [one for one, _ in METRIC.findall(rule["expr"])] or [""]
        grouped = re.search(r"\bby \(([^)]*)\)", rule["expr"])
        assert shown <= (set(grouped[1].split(", ")) if grouped else LABELS.get(name, set())), rule["alert"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            (name, *_) = [one for one, _ in METRIC.findall(target["expr"])]
            grouped = re.search(r"\bby \(([^)]*)\)", target["expr"])
            assert shown <= (set(grouped[1].split(", ")) if grouped else LABELS[name]), panel["title"]


def test_the_rules_cover_what_a_person_must_hear_of() -> None:
    assert {name for rule in rules() for name, _ in METRIC.findall(rule["expr"])} >= MUST_WARN_OF
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    (idle,) = (rule for rule in rules() if "gpu_idle" in rule["expr"])
    assert idle["for"] == "2m", "a claim that is under way is no idle GPU"
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_the_dashboard_shows_every_metric_and_nothing_overlaps() -> None:
    shown = {name for expression in expressions() for name, _ in METRIC.findall(expression)}
    assert shown == NAMES
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


def test_the_dashboard_is_what_grafana_reads() -> None:
    """Grafana itself is not run: an id of its own for each panel, and for each query what it is asked of."""
    found = dashboard()
    assert found["schemaVersion"] >= 39
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["line"]["datasource"] == source
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    assert {panel["type"] for panel in found["panels"]} == {"row", "stat", "timeseries"}
    for panel in found["panels"]:
        assert panel["title"]
        if panel["type"] == "row":
            assert (panel["panels"], panel["collapsed"], panel["gridPos"]["w"]) == ([], False, 24)
            continue
        assert panel["datasource"] == source, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references)), panel["title"]
        assert references, panel["title"]
        for target in panel["targets"]:
            assert target["expr"].strip(), panel["title"]
            assert target["datasource"] == source, panel["title"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= set(variables), panel["title"]


def test_a_panel_has_the_unit_of_all_that_it_shows() -> None:
    for panel in dashboard()["panels"]:
        units = {_unit(target["expr"]) for target in panel.get("targets", ())}
        assert units <= {panel.get("fieldConfig", {}).get("defaults", {}).get("unit")}, panel["title"]


def _unit(expression: str) -> str:
    (name, *_) = [one for one, _ in METRIC.findall(expression)]
    if name.endswith("_total"):
        return "ops" if "rate(" in expression else "short"
    if name.endswith(("_seconds", "_seconds_sum")):
        return "s"
    return "percentunit" if name.endswith("_ratio") else "short"


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    overlay = yaml.safe_load((DOCKER / "monitoring.yml").read_text())["services"]
    mounts = {old: new for old, new, *_ in (volume.split(":") for volume in overlay["grafana"]["volumes"])}
    provisioned = DOCKER / "grafana/provisioning"
    assert mounts["./docker/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((provisioned / "dashboards/rlfleet.yml").read_text())["providers"]
    assert mounts["./docker/grafana/rlfleet.json"] == f"{provider['options']['path']}/rlfleet.json"
    (source,) = yaml.safe_load((provisioned / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    assert "prometheus" in overlay


def test_prometheus_finds_its_rules_and_shows_a_token() -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    overlay = yaml.safe_load((DOCKER / "monitoring.yml").read_text())
    ours, flower = config["scrape_configs"]
    assert ours["static_configs"] == [{"targets": ["admin:8400"]}]
    mounts = {volume.split(":")[1] for volume in overlay["services"]["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= mounts
    token = ours["authorization"]["credentials_file"]
    assert [Path(token).name] == overlay["services"]["prometheus"]["secrets"]
    assert flower["static_configs"] == [{"targets": ["flower:5555"]}]
    for name, service in overlay["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()
        assert set(service["secrets"]) <= set(overlay["secrets"])


def test_the_secrets_are_files_that_the_containers_users_can_read_and_others_cannot(tmp_path: Path) -> None:
    """Compose mounts them with the mode that they have, and neither server is root."""
    page = (ROOT / "docs/monitoring.md").read_text()
    (shown,) = [block for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "docker/secrets" in block]
    (tmp_path / "rlfleet").write_text("#!/bin/sh\necho token\n")
    (tmp_path / "rlfleet").chmod(0o755)
    (tmp_path / "docker").mkdir()
    subprocess.run(
        ["sh", "-euc", f"umask 077\n{shown}"], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True
    )
    overlay = yaml.safe_load((DOCKER / "monitoring.yml").read_text())
    files = {tmp_path / one["file"] for one in overlay["secrets"].values()}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}
    assert {file.parent.stat().st_mode & 0o777 for file in files} == {0o700}
    assert all(file.read_text().strip() for file in files)


def test_the_page_says_what_each_metric_means() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    told = dict(re.findall(r"^\| `(rlfleet_\w+)` \| (\w+) \|", page, re.MULTILINE))
    gauges = {gauge.name: "gauge" for gauge in GAUGES}
    counters = {name: "counter" for name in NAMES if name.endswith("_total")}
    assert told == gauges | counters | {"rlfleet_job_recovery_seconds": "summary"}
    for name in re.findall(r"\bRlfleet\w+", page):
        assert name in {rule["alert"] for rule in rules()}
    assert set(re.findall(r"\bRlfleet\w+", page)) == {rule["alert"] for rule in rules()}
