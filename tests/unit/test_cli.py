"""The command line against a service that answers as told: what is asked, what is printed where, exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.cli import exits, main, say
from app.cli.follow import Lines, figures, plain
from tests.unit.fake_service import serving

ROOT = Path(__file__).parents[2]

READY = {
    "id": "r1",
    "catalogue": "shop",
    "strategy": "full",
    "state": "ready",
    "stage": "cleaning",
    "counts": {"source": 20, "loaded": 18, "excluded": 2, "rejected": 0, "added": None},
    "stages": [{"stage": "filling", "seconds": 1.25}],
    "verdict": {"passed": True, "checks": []},
    "error": None,
}
QUEUED = {**READY, "state": "queued", "stage": None, "verdict": None}
RUNNING = {**QUEUED, "state": "running", "stage": "filling"}
FAILED_CHECK = {"check": "count", "expected": 9, "found": 8, "passed": False}
SHOP = {
    "name": "shop",
    "source": {"index": "magento2_product_1"},
    "target": {"engine": "main", "alias": "shop-live"},
    "held": False,
    "live": {"index": "shop-20260101000000", "documents": 18},
    "last_run": {"id": "r1", "state": "ready"},
    "paused": False,
    "projection": "on",
    "lag": {
        "pending": 1200,
        "due": 1100,
        "processing": 3,
        "stuck": 0,
        "failed": 17,
        "withheld": 6,
        "oldest_seconds": 42.5,
    },
}


@pytest.fixture
def fake():
    with serving() as service:
        service.on("GET", "/maintenance", {"read_only": False, "message": None})
        yield service


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RESHELVE_"):
            monkeypatch.delenv(name)


def lines(*told):
    return {"items": [{"seq": n + 1, "kind": kind, "data": data} for n, (kind, data) in enumerate(told)]}


def ends_as(fake, run, *told):
    fake.on("GET", "/runs/r1", RUNNING, run)
    fake.on("GET", "/runs/r1/progress", lines(*told), {"items": []})


# --- sync, watch -----------------------------------------------------------------------------------------------------


def test_sync_orders_a_run_tells_its_stages_and_prints_it_when_it_is_over(reshelve, fake):
    fake.on("POST", "/sync", QUEUED, status=202)
    ends_as(fake, READY, ("stage", {"stage": "filling"}), ("verdict", {"passed": True}), ("state", {"state": "ready"}))

    code, out, err = reshelve("sync", "shop", "--reason", "night", "--release", "--idempotency-key", "k", "-o", "json")

    assert code == exits.DONE
    assert json.loads(out) == READY
    assert fake.bodies("POST", "/sync") == [
        {"catalogue": "shop", "strategy": "auto", "reason": "night", "release": True}
    ]
    assert fake.asked[0][3]["idempotency-key"] == "k"
    assert [line for line in err.splitlines() if line in {"filling", "verdict: passed", "ready"}] == [
        "filling",
        "verdict: passed",
        "ready",
    ]


def test_sync_without_waiting_prints_the_queued_run(reshelve, fake):
    fake.on("POST", "/sync", QUEUED, status=202)

    code, out, _ = reshelve("sync", "--no-wait", "--strategy", "full", "-o", "jsonl")

    assert (code, json.loads(out)["state"]) == (exits.DONE, "queued")
    assert fake.bodies("POST", "/sync") == [{"strategy": "full"}]


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"state": "failed", "error": {"code": "gone", "detail": "It went."}}, exits.FAILED, "It went. (gone)"),
        ({"state": "canceled", "error": None}, exits.FAILED, ""),
        ({"counts": {"rejected": 3}}, exits.REJECTS, "3 products were left out"),
        (
            {"withheld": [{"guard": "deletions", "limit": 50, "found": 120}]},
            exits.GUARDED,
            "120 deletions are due, 50 are allowed\nIf they are right: reshelve runs approve r1 --deletions 120",
        ),
        (
            {
                "state": "failed",
                "error": {"code": "verdict_refused", "detail": "No."},
                "verdict": {"passed": False, "checks": [FAILED_CHECK]},
            },
            exits.GUARDED,
            "count: expected 9, found 8",
        ),
    ],
)
def test_the_exit_code_says_how_a_run_ended(reshelve, fake, changes, code, told):
    fake.on("GET", "/runs/r1", {**READY, **changes})
    fake.on("GET", "/runs/r1/progress", {"items": []})

    got, _, err = reshelve("watch", "r1")

    assert got == code
    assert told in err


def test_watch_finds_the_active_run_of_a_catalogue(reshelve, fake):
    fake.on("GET", "/catalogues/shop", SHOP)
    fake.on("GET", "/runs", {"items": [RUNNING], "next_cursor": None})
    fake.on("GET", "/runs/r1", READY)
    fake.on("GET", "/runs/r1/progress", {"items": []})

    assert reshelve("watch", "shop")[0] == exits.DONE
    assert any("catalogue=shop" in path and "state=running" in path for _, path, _, _ in fake.asked)


def test_watch_says_when_nothing_is_active(reshelve, fake):
    fake.on("GET", "/runs", {"items": [], "next_cursor": None})

    code, out, err = reshelve("watch")

    assert (code, out) == (exits.FAILED, "")
    assert "No run is active" in err


def test_watch_outlives_a_service_that_is_away_for_a_moment(reshelve, fake):
    fake.answers["GET", "/api/v1/runs/r1"] = [(200, RUNNING), (503, {"detail": "Away.", "code": "x"}), (200, READY)]
    fake.on("GET", "/runs/r1/progress", {"items": []})

    assert reshelve("watch", "r1")[0] == exits.DONE


def test_the_first_interrupt_detaches_and_names_the_run(fake):
    asked = threading.Event()
    fake.on("GET", "/runs/r1", RUNNING)
    fake.on("GET", "/runs/r1/progress", {"items": []})
    answer = fake.answer
    fake.answer = lambda method, path: (asked.set() if "progress" in path else None, answer(method, path))[1]
    command = [sys.executable, "-m", "app", "watch", "r1", "--url", fake.url]
    watching = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert asked.wait(60)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)
    finally:
        watching.kill()
        watching.wait()

    assert watching.returncode == exits.INTERRUPTED
    assert "run r1 goes on: reshelve watch r1" in err
    assert "Traceback" not in err


def test_elsewhere_than_on_a_terminal_counts_are_told_every_ten_seconds(capsys):
    now = [0.0]
    display = Lines(clock=lambda: now[0])
    display.tell("stage", {"stage": "filling"})
    for second in range(1, 26):
        now[0] = second
        display.tell("counts", {"documents": second * 100, "of": 5_000, "rate": 99.6, "remaining": 12.4})

    told = capsys.readouterr().err.splitlines()

    assert told == [
        "filling",
        "filling: 1,000 of 5,000 products, 100/s, 12 s left",
        "filling: 2,000 of 5,000 products, 100/s, 12 s left",
    ]

    for second in range(26, 41):
        now[0] = second
        display.tick()
    assert capsys.readouterr().err.splitlines() == ["filling: goes on", "filling: goes on"], "a stage without counts"


def test_a_run_that_was_refused_when_it_planned_ends_as_a_refused_order_does():
    findings = [{"code": "source_empty", "detail": "x"}]
    error = {"code": "source_empty", "detail": "x", "findings": findings}
    assert exits.of_run({"state": "failed", "error": error}) == exits.GUARDED
    assert exits.of_run({"state": "failed", "error": {"code": "stalled", "detail": "x"}}) == exits.FAILED


def test_figures_leave_out_what_is_not_known():
    assert figures({"documents": 5, "of": None, "rate": 0.0, "remaining": None}) == "5 products"
    assert plain("note", {"held": True, "reason": "a\x1b[31mb"}) == "held: True, reason: a [31mb"
    plan = {"strategy": "full", "why": "A full run was ordered.", "counts": {}}
    assert plain("note", {"plan": plan}) == "full: A full run was ordered."
    withheld = {"guard": "shrink", "limit": 50, "found": 1200}
    assert plain("note", {"withheld": [withheld]}) == "1,200 deletions are withheld (shrink)"


# --- the other verbs about runs --------------------------------------------------------------------------------------


def test_status_shows_each_catalogue_with_what_is_live(reshelve, fake):
    fake.on("GET", "/catalogues", {"items": [SHOP], "next_cursor": None})
    fake.on("GET", "/catalogues/shop", SHOP)

    code, out, err = reshelve("status")

    assert (code, err) == (exits.DONE, "")
    assert "shop-live" in out
    assert "shop-20260101000000" in out


def test_status_tells_how_far_events_are_behind_and_that_the_service_is_read_only(reshelve, fake):
    fake.on("GET", "/maintenance", {"read_only": True, "message": "the cluster moves"})
    fake.on("GET", "/catalogues/shop", SHOP)

    code, out, err = reshelve("status", "shop")

    assert code == exits.DONE
    heads, row = [line.split() for line in out.splitlines() if "─" not in line]
    assert heads[-7:] == ["pending", "oldest_seconds", "stuck", "failed", "withheld", "paused", "projection"]
    assert row[-7:] == ["1200", "42.5", "0", "17", "6", "no", "on"]
    assert "read-only: the cluster moves" in err


def test_a_long_list_is_read_over_its_pages_and_no_further_than_asked(reshelve, fake):
    pages = [{"items": [READY] * 200, "next_cursor": "c1"}, {"items": [READY] * 50, "next_cursor": "c2"}]
    fake.on("GET", "/runs", *pages)

    code, out, _ = reshelve("runs", "list", "--limit", "250", "--state", "ready", "-o", "jsonl")

    assert code == exits.DONE
    assert len(out.splitlines()) == 250
    assert ["cursor=c1" in path for _, path, _, _ in fake.asked] == [False, True]
    assert "limit=50" in fake.asked[1][1]


def test_show_prints_a_run_and_its_rejects(reshelve, fake):
    fake.on("GET", "/runs/r1", READY)
    fake.on("GET", "/runs/r1/rejects", {"items": [{"product_id": "7", "by": "data", "code": "c", "detail": "bad\n1"}]})

    code, out, _ = reshelve("runs", "show", "r1")
    assert code == exits.DONE
    assert "source 20, loaded 18, excluded 2, rejected 0" in out
    code, out, _ = reshelve("runs", "show", "r1", "--rejects")
    assert code == exits.DONE
    assert "bad 1" in out


def test_an_approval_names_a_ceiling_and_is_seen_through(reshelve, fake):
    fake.on("POST", "/runs/r0/approve", QUEUED, status=202)
    fake.on("GET", "/runs/r1", READY)
    fake.on("GET", "/runs/r1/progress", {"items": []})

    code, out, _ = reshelve("runs", "approve", "r0", "--deletions", "120", "-o", "json")

    assert (code, json.loads(out)) == (exits.DONE, READY)
    assert fake.bodies("POST", "/runs/r0/approve") == [{"deletions": 120}]
    assert reshelve("runs", "approve", "r0")[0] == exits.USAGE
    assert reshelve("runs", "approve", "r0", "--deletions", "0")[0] == exits.USAGE


def test_cancel_and_retry(reshelve, fake):
    fake.on("POST", "/runs/r1/cancel", RUNNING, status=202)
    fake.on("POST", "/runs/r0/retry", QUEUED, status=202)
    fake.on("GET", "/runs/r1", READY)
    fake.on("GET", "/runs/r1/progress", {"items": []})

    code, _, err = reshelve("runs", "cancel", "r1")
    assert code == exits.DONE
    assert "Run r1 is running and stops." in err
    assert reshelve("runs", "retry", "r0")[0] == exits.DONE
    assert reshelve("runs", "retry", "r0", "--no-wait")[0] == exits.DONE


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "members", "code"),
    [
        (400, {}, exits.USAGE),
        (401, {}, exits.NOT_ALLOWED),
        (403, {}, exits.NOT_ALLOWED),
        (404, {}, exits.FAILED),
        (409, {"code": "active", "run_id": "r9"}, exits.CONFLICT),
        (422, {"errors": [{"where": "strategy", "why": "is not built yet"}]}, exits.USAGE),
        (422, {"code": "source_empty", "findings": [{"code": "source_empty", "detail": "It is so."}]}, exits.GUARDED),
        (429, {}, exits.FAILED),
        (500, {}, exits.FAILED),
        (502, {}, exits.FAILED),
        (503, {}, exits.UNREACHABLE),
    ],
)
def test_a_refusal_is_one_sentence_its_findings_and_a_code(reshelve, fake, status, members, code):
    fake.refuse("POST", "/sync", status, **members)

    got, out, err = reshelve("sync", "shop")

    assert (got, out) == (code, "")
    assert err.splitlines()[0] == "It is so."
    assert "request id req-1" in err
    for found in members.get("errors", ()):
        assert f"{found['where']}: {found['why']}" in err


def test_several_findings_of_admission_are_told_one_by_one(reshelve, fake):
    findings = [{"code": "source_empty", "detail": "Nothing there."}, {"code": "alias_index", "detail": "An index."}]
    fake.refuse("POST", "/sync", 422, code="refused", detail="Nothing there. An index.", findings=findings)

    code, _, err = reshelve("sync")

    assert code == exits.GUARDED
    assert err.splitlines()[:3] == [
        "Refused for 2 reasons:",
        "  source_empty: Nothing there.",
        "  alias_index: An index.",
    ]


def test_a_named_address_that_does_not_answer_is_unreachable_and_nothing_else_is_tried(capsys):
    with serving() as gone:
        url = gone.url
    code = main(["status", "--url", url])

    assert code == exits.UNREACHABLE
    assert f"{url} does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (502, b"<html>Bad Gateway</html>")])
def test_something_else_at_that_address_is_unreachable_too(reshelve, fake, status, body):
    fake.on("GET", "/catalogues", body, status=status)

    code, _, err = reshelve("status")

    assert code == exits.UNREACHABLE
    assert "is that a Reshelve?" in err


@pytest.mark.parametrize("url", ["ftp://somewhere", "nonsense", "http://[::1"])
def test_an_address_that_is_none_is_a_mistake_of_the_caller(url, capsys):
    assert main(["status", "--url", url]) == exits.USAGE
    assert "address" in capsys.readouterr().err


def test_the_address_and_the_token_may_come_from_the_environment(fake, capsys, monkeypatch):
    monkeypatch.setenv("RESHELVE_URL", fake.url)
    monkeypatch.setenv("RESHELVE_TOKEN", "secret")
    fake.on("GET", "/catalogues", {"items": [], "next_cursor": None})

    assert main(["catalogues", "list"]) == exits.DONE
    assert fake.asked[0][3]["authorization"] == "Bearer secret"
    assert "secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("arguments", [["nonsense"], ["sync", "--strategy", "fast"], ["runs", "list", "--limit", "0"]])
def test_misuse_exits_with_two(arguments, capsys):
    assert main(arguments) == exits.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verb", [["work"], ["audit"], ["token", "--new"]])
def test_verbs_that_are_not_built_yet_say_so(verb, capsys):
    assert main(verb) == exits.USAGE
    assert "is not built yet" in capsys.readouterr().err


# --- how data is printed ---------------------------------------------------------------------------------------------


def test_a_table_in_a_pipe_keeps_each_row_on_one_line_and_colours_nothing(capsys):
    row = {"name": "x" * 300, "score": 0.123456, "gone": None, "yes": True}
    say.items([row], list(row), "table")

    rows = [line for line in capsys.readouterr().out.splitlines() if "x" * 300 in line]
    assert [row.split() for row in rows] == [["x" * 300, "0.1235", "-", "yes"]]


def test_what_a_product_is_called_moves_no_cursor(capsys):
    say.items([{"name": "a\x1b[2Jb\nc"}], ("name",), "table")

    assert "\x1b" not in capsys.readouterr().out


def test_json_may_hold_what_utf8_may_not(capsys):
    say.one({"name": "\ud800"}, {}, "json")

    assert json.loads(capsys.readouterr().out) == {"name": "?"}


def test_options_of_every_verb_may_stand_before_it(fake):
    fake.on("GET", "/runs/r1", READY)
    assert main(["--url", fake.url, "-o", "json", "runs", "show", "r1"]) == exits.DONE
