"""What is listed, a page at a time."""

from __future__ import annotations

from sqlalchemy import text

from db.session import transaction
from tests.admin.world import Api, dispatch_one
from tests.tasks import rows


def test_jobs_are_paged_by_id_and_chosen_by_state_and_kind(api: Api) -> None:
    rows.add_line()
    made = [dispatch_one(kind, n=n) for n in range(3) for kind in ("score", "collect")]
    seen: list[int] = []
    before: dict[str, int] = {}
    while True:
        page = api.get("jobs", limit=4, **before)
        seen += [one["job_id"] for one in page["jobs"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == made[::-1]
    assert [one["job_id"] for one in api.get("jobs", kind="score", line="main")["jobs"]] == made[-2::-2]
    assert api.get("jobs", state="dead") == {"jobs": [], "next": None}


def test_windows_are_paged_with_their_reasons(api: Api) -> None:
    line_id = rows.add_line()
    for hour in ("10", "11", "12"):
        rows.add_scored(line_id, f"2025-01-15T{hour}:00", 1.0)
    rows.rows(
        "update rlfleet.windows set state = 'skipped', reason = 'nothing came' where name like '%12:00' returning 1"
    )
    first = api.get("windows", limit=2)
    assert [(one["name"][-5:], one["state"], one["reason"]) for one in first["windows"]] == [
        ("12:00", "skipped", "nothing came"),
        ("11:00", "scored", None),
    ]
    (last,) = api.get("windows", limit=2, before=first["next"])["windows"]
    assert (last["name"], last["trajectories"], last["scored"]) == ("2025-01-15T10:00", 1, 1)
    assert first["readiness"]["stats"]["scored"] == 2
    assert [one["name"] for one in api.get("windows", state="skipped")["windows"]] == ["2025-01-15T12:00"]
    shown = api.get("windows/2025-01-15T10:00")
    assert (shown["kind"], shown["trajectory_count"], len(shown["trajectories"])) == ("window", 1, 1)


def test_alarms_waiting_and_past(api: Api) -> None:
    with transaction() as session:
        for name in ("one", "two", "three"):
            session.execute(
                text("insert into rlfleet.alerts (name, subject, detail) values (:name, 'x', '{}')"), {"name": name}
            )
        session.execute(text("update rlfleet.alerts set sent_at = now() where name = 'two'"))
    assert [one["name"] for one in api.get("alarms")["alarms"]] == ["three", "two", "one"]
    assert [one["name"] for one in api.get("alarms", state="waiting")["alarms"]] == ["three", "one"]
    (past,) = api.get("alarms", state="past")["alarms"]
    assert (past["name"], past["sent_at"] is not None) == ("two", True)
    page = api.get("alarms", limit=2)
    assert [one["name"] for one in api.get("alarms", before=page["next"])["alarms"]] == ["one"]


def test_the_audit_is_paged(api: Api) -> None:
    rows.add_line()
    job = dispatch_one("score")
    for _ in range(3):
        api.post(f"jobs/{job}/cancel")
    answer = api.operator.get("/api/admin/audit", params={"limit": 2}).json()
    assert [(one["actor"], one["action"], one["subject"]) for one in answer["entries"]] == [
        ("otto", "cancel job", str(job))
    ] * 2
    rest = api.operator.get("/api/admin/audit", params={"before": answer["next"]}).json()
    assert (len(rest["entries"]), rest["next"], rest["entries"][0]["address"]) == (1, None, "127.0.0.1")
    names = [one["name"] for one in api.operator.get("/api/admin/tokens").json()["tokens"]]
    assert names == ["otto", "vera"]


def test_a_config_that_is_not_understood_is_no_failure_of_the_server(api: Api) -> None:
    rows.add_line()
    rows.rows("""update rlfleet.lines set config = '{"base_model": "m", "nonsense": 1}' returning 1""")
    answer = api.viewer.get("/api/admin/training/status")
    assert (answer.status_code, answer.json()["remedy"]) == (409, "change the line's config with `rlfleet line`")
    assert "nonsense" in answer.json()["error"]
