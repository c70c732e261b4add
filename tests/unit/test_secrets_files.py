"""Secrets as files: called like the variables, nested ones too; the environment counts more."""

from pathlib import Path

import pytest

from app.config import load_settings

DIGEST = "ab" * 32


def test_each_secret_may_be_a_file_called_like_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "RESHELVE_DATABASE_URL": "postgresql+asyncpg://me:secret@db/reshelve\n",
        "RESHELVE_AUTH__TOKENS": f'{{"cron": "{DIGEST}"}}\n',
        "RESHELVE_ENGINES__MAIN__PASSWORD": "elastic-secret\n",
        "OPENAI_API_KEY": "sk-secret\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("RESHELVE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("RESHELVE_ENGINES__MAIN__URL", "https://engine:9200")
    monkeypatch.setenv("RESHELVE_AUTH__MODE", "token")
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql+asyncpg://me:secret@db/reshelve"
    assert (settings.auth.mode, settings.auth.tokens) == ("token", {"cron": DIGEST})
    main = settings.engines["main"]
    assert main.password is not None
    assert (main.url, main.password.get_secret_value()) == ("https://engine:9200", "elastic-secret")
    key = settings.embedders["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-secret"


def test_the_environment_counts_more_than_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "RESHELVE_PORT").write_text("9001")
    monkeypatch.setenv("RESHELVE_SECRETS_DIR", str(tmp_path))
    assert load_settings().port == 9001
    monkeypatch.setenv("RESHELVE_PORT", "9002")
    assert load_settings().port == 9002


@pytest.mark.parametrize(
    ("variables", "url", "key", "more"),
    [
        ({}, None, "sk-secret", []),
        ({"OPENAI_BASE_URL": "http://me/v1"}, "http://me/v1", "sk-secret", []),
        ({"RESHELVE_EMBEDDERS__OPENAI__URL": "http://other/v1"}, "http://other/v1", None, []),
        (
            {"RESHELVE_EMBEDDERS__OPENAI__URL": "http://other/v1", "OPENAI_BASE_URL": "http://me/v1"},
            "http://other/v1",
            None,
            ["http://me/v1"],
        ),
    ],
)
def test_the_key_that_every_tool_reads_goes_to_no_address_that_only_we_were_told(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str | None, key: str | None, more: list[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    openai = load_settings().embedders["openai"]
    told = openai.api_key and openai.api_key.get_secret_value()
    assert (openai.url, told, openai.allow_urls) == (url, key, more)
