"""Verbs that look after this machine, and where the others connect to when nobody says so."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.cli import exits, main
from app.cli.runs import needs_service
from app.cli.wire import Api
from app.config import load_settings
from app.errors import Invalid
from tests.unit.fake_service import serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_settings(monkeypatch, tmp_path):
    """Settings of this test alone: a fresh database, an engine that is not there, a port where nobody listens."""
    for name in list(os.environ):
        if name.startswith(("RESHELVE_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RESHELVE_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path / 'reshelve.db'}")
    monkeypatch.setenv("RESHELVE_ENGINES__MAIN__URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("RESHELVE_PORT", str(free_port()))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reshelve(*arguments):
    """A process of its own: it configures logging and runs the whole service inside."""
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


# --- where to --------------------------------------------------------------------------------------------------------


def test_without_an_address_the_service_on_this_machines_port_is_asked(capsys, monkeypatch):
    with serving() as fake:
        monkeypatch.setenv("RESHELVE_PORT", fake.url.rpartition(":")[2])
        fake.answers["GET", "/api/version"] = [(200, {"version": "0.1.0"})]
        fake.on("GET", "/catalogues", {"items": [], "next_cursor": None})

        assert main(["catalogues", "list", "-o", "json"]) == exits.DONE

    assert json.loads(capsys.readouterr().out) == []


def test_with_no_service_the_same_app_runs_inside_the_command(tmp_path):
    file = tmp_path / "shop.json"
    file.write_text(json.dumps({"name": "shop", "source": {"index": "products"}, "target": {"alias": "shop-live"}}))

    applied = reshelve("catalogues", "apply", "-f", str(file), "-o", "jsonl")
    refused = reshelve("sync", "shop")

    assert (applied.returncode, applied.stderr) == (exits.DONE, "")
    assert json.loads(applied.stdout)["target"]["alias"] == "shop-live"
    assert refused.returncode == exits.GUARDED
    assert "did not answer" in refused.stderr


def test_a_run_that_nobody_would_do_later_is_not_left_behind():
    with pytest.raises(Invalid, match="start one with `reshelve serve`"):
        needs_service(Api(httpx.AsyncClient(), own=True), no_wait=True)


# --- serve, db upgrade -----------------------------------------------------------------------------------------------


def test_serve_refuses_settings_that_cannot_be_used_without_showing_their_values(monkeypatch, capsys):
    monkeypatch.setenv("RESHELVE_SLICES", "many-secrets")
    monkeypatch.setenv("RESHELVE_AUTH__TOKENS", '{"ann": "not-a-digest"}')

    assert main(["serve"]) == exits.USAGE

    err = capsys.readouterr().err
    assert "RESHELVE_SLICES: " in err
    assert "RESHELVE_AUTH__TOKENS: " in err
    assert "many-secrets" not in err
    assert "not-a-digest" not in err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RESHELVE_AUTH__TOKENS", "hush", "RESHELVE_AUTH"),
        ("RESHELVE_WEBHOOK_SECRETS", "hush", "RESHELVE_WEBHOOK_SECRETS"),
        ("RESHELVE_EMBEDDERS__OPENAI__ALLOW_URLS", "[hush", "RESHELVE_EMBEDDERS__OPENAI__ALLOW_URLS"),
        ("RESHELVE_SECRETS_DIR", "/nowhere", "RESHELVE_SECRETS_DIR"),
    ],
)
def test_serve_names_the_setting_that_cannot_even_be_read(monkeypatch, capsys, name, value, says):
    monkeypatch.setenv(name, value)

    assert main(["serve"]) == exits.USAGE

    err = capsys.readouterr().err
    assert says in err
    assert "hush" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["http://a/v1, http://b/v1", '["http://a/v1", "http://b/v1"]'])
def test_addresses_are_a_list_however_they_are_written(monkeypatch, text):
    monkeypatch.setenv("RESHELVE_EMBEDDERS__OPENAI__ALLOW_URLS", text)

    assert load_settings().embedders["openai"].allow_urls == ["http://a/v1", "http://b/v1"]


def test_serve_refuses_to_listen_for_everybody_without_tokens(capsys):
    assert main(["serve", "--host", "0.0.0.0"]) == exits.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_serve_says_that_the_port_is_taken(capsys):
    with serving() as taken:
        port = taken.url.rpartition(":")[2]
        assert main(["serve", "--port", port]) == exits.CONFLICT
    assert f"Port {port} on 127.0.0.1 is taken" in capsys.readouterr().err


def test_serve_refuses_a_database_that_is_not_there_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("RESHELVE_DATABASE_URL", "sqlite+aiosqlite:////nowhere/at/all.db")

    ended = main(["serve"])

    assert ended == exits.USAGE
    assert capsys.readouterr().err.startswith("The folder /nowhere/at does not exist: make it")


def test_db_upgrade_brings_the_schema_to_head_and_says_when_it_is_there(capsys):
    assert main(["db", "upgrade"]) == exits.DONE
    assert "went from nothing to" in capsys.readouterr().err
    assert main(["db", "upgrade"]) == exits.DONE
    assert "already" in capsys.readouterr().err


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_finds_what_ails_and_exits_with_one(capsys):
    code = main(["doctor", "-o", "json"])
    out, err = capsys.readouterr()
    found = {symptom["part"]: symptom for symptom in json.loads(out)}

    assert code == exits.FAILED
    assert found["engine main"]["state"] == "ill"
    assert found["database"]["state"] == "note"
    assert found["embedder local"]["state"] == "well"
    assert found["embedder openai"]["detail"] == "not configured"
    assert found["settings"]["state"] == found["disk"]["state"] == "well"
    assert "1 of " in err


def test_doctor_knows_a_database_that_is_ready_and_a_folder_that_is_not_there(capsys, monkeypatch):
    main(["db", "upgrade"])
    main(["doctor"])
    assert "at revision" in capsys.readouterr().out

    monkeypatch.setenv("RESHELVE_DATABASE_URL", "sqlite+aiosqlite:////nowhere/at/all.db")
    main(["doctor"])
    assert "the folder /nowhere/at does not exist" in capsys.readouterr().out
