"""The verbs about events and the read-only mode, against a service that answers as told."""

import io
import json

import pytest

from app.cli import exits
from app.notices import MOST
from tests.unit.fake_service import serving

PATH = "/catalogues/shop/events"
TAKEN = {"accepted": 1, "coalesced": 0, "duplicates": 0}
ENTRY = {
    "seq": 7,
    "product_id": "24-MB01",
    "action": "upsert",
    "lane": "normal",
    "status": "failed",
    "attempts": 10,
    "reason_code": "gave_up",
    "detail": "Tried 10 times.",
    "received_at": "2026-01-31T00:00:00.000Z",
}


@pytest.fixture
def fake():
    with serving() as service:
        service.on("GET", "/catalogues", {"items": [{"name": "shop"}], "next_cursor": None})
        service.on("POST", PATH, TAKEN, status=202)
        yield service


def sent(fake):
    """The events of each request."""
    return [body["events"] for body in fake.bodies("POST", PATH)]


# --- send ------------------------------------------------------------------------------------------------------------


def test_products_are_told_in_one_request_and_the_answer_is_printed(reshelve, fake):
    fake.on("POST", PATH, {"accepted": 2, "coalesced": 1, "duplicates": 0}, status=202)

    code, out, err = reshelve("events", "send", "shop", "24-MB01", "24-MB02", "-o", "json")

    assert (code, err) == (exits.DONE, "")
    assert json.loads(out) == {"accepted": 2, "coalesced": 1, "duplicates": 0}
    assert sent(fake) == [[{"product_id": "24-MB01"}, {"product_id": "24-MB02"}]]


def test_what_is_said_of_one_is_said_of_all_and_each_has_an_id_of_its_own(reshelve, fake):
    more = ["--delete", "--priority", "--not-before", "2026-01-31T00:00:00Z", "--id", "import-7"]

    assert reshelve("events", "send", "shop", "a", "b", "c", *more)[0] == exits.DONE
    said = {"action": "delete", "priority": True, "not_before": "2026-01-31T00:00:00Z"}
    assert sent(fake) == [
        [
            {**said, "product_id": "a", "id": "import-7"},
            {**said, "product_id": "b", "id": "import-7:1"},
            {**said, "product_id": "c", "id": "import-7:2"},
        ]
    ]


def test_stdin_has_ids_or_events_a_line_which_say_more_than_the_options(reshelve, fake, monkeypatch):
    lines = ["a b", "", '{"product_id": "c", "action": "upsert", "id": "own"}', '  {"product_id": "d"}  ']
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))

    assert reshelve("events", "send", "shop", "-", "e", "--delete", "--id", "k")[0] == exits.DONE
    assert sent(fake) == [
        [
            {"id": "k", "action": "delete", "product_id": "a b"},
            {"id": "own", "action": "upsert", "product_id": "c"},
            {"id": "k:2", "action": "delete", "product_id": "d"},
            {"id": "k:3", "action": "delete", "product_id": "e"},
        ]
    ]


def test_many_are_cut_into_requests_that_the_service_takes_and_counted_together(reshelve, fake, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"p{n}\n" for n in range(2 * MOST + 1))))
    answers = [{"accepted": n, "coalesced": 1, "duplicates": 2} for n in (MOST, MOST, 1)]
    fake.on("POST", PATH, *answers, status=202)

    code, out, _ = reshelve("events", "send", "shop", "-", "-o", "jsonl")

    assert (code, json.loads(out)) == (exits.DONE, {"accepted": 2 * MOST + 1, "coalesced": 3, "duplicates": 6})
    assert [len(some) for some in sent(fake)] == [MOST, MOST, 1]
    assert sent(fake)[2] == [{"product_id": f"p{2 * MOST}"}]


def test_a_full_outbox_is_waited_for_as_long_as_it_says(reshelve, fake):
    full = {"detail": "100000 events of shop wait.", "code": "outbox_full", "status": 429}
    fake.answers["POST", f"/api/v1{PATH}"] = [(429, full), (503, {**full, "status": 503}), (202, TAKEN)]
    fake.retry_after = "0"

    code, out, err = reshelve("events", "send", "shop", "a", "-o", "json")

    assert (code, json.loads(out)) == (exits.DONE, TAKEN)
    assert err.count("100000 events of shop wait. Trying again in 0 s.") == 2
    assert sent(fake) == [[{"product_id": "a"}]] * 3


@pytest.mark.parametrize(
    ("status", "retry_after", "code"),
    [
        (429, "86400", exits.FAILED),
        (429, None, exits.FAILED),
        (503, "soon", exits.UNREACHABLE),
        (404, "0", exits.FAILED),
    ],
)
def test_what_need_not_be_waited_for_ends_it_and_says_how_far_it_came(
    reshelve, fake, monkeypatch, status, retry_after, code
):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"p{n}\n" for n in range(MOST + 1))))
    fake.answers["POST", f"/api/v1{PATH}"] = [
        (202, {**TAKEN, "accepted": MOST}),
        (status, {"detail": "No.", "code": "x"}),
    ]
    fake.retry_after = retry_after

    got, out, err = reshelve("events", "send", "shop", "-")

    assert (got, out) == (code, "")
    assert err.splitlines()[:2] == ["1,000 events were accepted until then.", "No."]
    assert len(sent(fake)) == 2


@pytest.mark.parametrize("stdin", [b"a\n{not json\n", b"a\n\xff\xfe\n"])
def test_what_cannot_be_read_from_stdin_is_misuse(reshelve, fake, monkeypatch, stdin):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))

    code, _, err = reshelve("events", "send", "shop", "-")

    assert code == exits.USAGE
    assert "Line 2 of stdin" in err or "not UTF-8" in err
    assert sent(fake) == []


def test_nothing_to_send_sends_nothing(reshelve, fake, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    code, out, _ = reshelve("events", "send", "shop", "-", "-o", "json")
    assert (code, json.loads(out)) == (exits.DONE, {"accepted": 0, "coalesced": 0, "duplicates": 0})
    assert sent(fake) == []
    assert reshelve("events", "send", "shop")[0] == exits.USAGE


# --- list ------------------------------------------------------------------------------------------------------------


def test_list_shows_what_became_of_each(reshelve, fake):
    fake.on("GET", PATH, {"items": [ENTRY], "next_cursor": None})

    code, out, _ = reshelve("events", "list", "shop", "--status", "failed", "--product", "24-MB01", "--limit", "5")
    assert code == exits.DONE
    assert out.splitlines()[-1].split()[:7] == ["7", "24-MB01", "upsert", "normal", "failed", "10", "gave_up"]
    asked = fake.asked[-1][1]
    assert all(part in asked for part in ("status=failed", "product_id=24-MB01", "limit=5"))
    _, out, _ = reshelve("events", "list", "-o", "jsonl")
    assert json.loads(out) == ENTRY
    assert "status" not in fake.asked[-1][1]
    assert reshelve("events", "list", "--status", "lost")[0] == exits.USAGE


# --- replay, drop ----------------------------------------------------------------------------------------------------


def test_replay_says_why_which_and_how_many(reshelve, fake):
    fake.on("POST", f"{PATH}/replay", {"replayed": 3, "dry_run": True})
    words = ["--reason", "the engine is back", "--reason-code", "gave_up", "--limit", "5", "--dry-run"]

    code, out, _ = reshelve("events", "replay", "shop", *words, "-o", "json")

    assert (code, json.loads(out)) == (exits.DONE, {"replayed": 3, "dry_run": True})
    assert fake.bodies("POST", f"{PATH}/replay") == [
        {"reason": "the engine is back", "limit": 5, "reason_code": "gave_up", "dry_run": True}
    ]
    assert reshelve("events", "replay", "shop")[0] == exits.USAGE


def test_drop_only_counts_until_it_is_told_to_do_it(reshelve, fake):
    fake.on("POST", f"{PATH}/drop", {"dropped": 1200, "dry_run": True})

    code, _, err = reshelve("events", "drop", "--reason", "test data")
    assert code == exits.USAGE
    assert "1,200 failed events would be dropped for good: add --yes" in err
    assert reshelve("events", "drop", "--reason", "test data", "--dry-run")[0] == exits.DONE
    assert reshelve("events", "drop", "--reason", "test data", "--yes", "--dry-run")[0] == exits.DONE
    assert reshelve("events", "drop", "--reason", "test data", "--yes")[0] == exits.DONE
    assert [body["dry_run"] for body in fake.bodies("POST", f"{PATH}/drop")] == [True, True, True, False]


# --- maintenance -----------------------------------------------------------------------------------------------------


def test_the_read_only_mode_is_switched_shown_and_explained(reshelve, fake):
    fake.on("PUT", "/maintenance", {"read_only": True, "message": "disks"}, {"read_only": False, "message": None})
    fake.on("GET", "/maintenance", {"read_only": True, "message": None})

    code, out, err = reshelve("maintenance", "on", "--message", "disks", "-o", "json")
    assert (code, json.loads(out)) == (exits.DONE, {"read_only": True, "message": "disks"})
    assert "The service is read-only: disks. Events wait, no run starts." in err
    code, out, err = reshelve("maintenance", "off")
    assert (code, err) == (exits.DONE, "")
    assert out.split() == ["read_only", "no"]
    assert "read-only. Events wait" in reshelve("maintenance", "show")[2]
    assert fake.bodies("PUT", "/maintenance") == [{"read_only": True, "message": "disks"}, {"read_only": False}]
