"""What would be deployed: the image's steps are done, its command is started; the compose file fits its schema."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psutil
import pytest
import yaml

from app.auth import check_listening
from app.config import Settings
from tests.e2e.image import ROOT, Image, allowed, build, steps
from tests.e2e.nginx import free_port
from tests.e2e.waiting import until

pytestmark = pytest.mark.timeout(1200)

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Built once, where other users may enter."""
    place = Path(tempfile.mkdtemp(prefix="reshelve-image-"))
    place.chmod(0o755)
    try:
        yield build(place, COMMIT="0123abcd")
    finally:
        shutil.rmtree(place)


def who(image: Image) -> dict[str, Any]:
    """How to become the image's user; nothing when we are nobody special ourselves."""
    if os.geteuid() != 0:
        return {}
    uid, _, gid = image.user.partition(":")
    return {"user": int(uid), "group": int(gid), "extra_groups": []}


@contextmanager
def running(image: Image, port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image's command as its user, with nothing of our environment."""
    env = {**image.environment(), "RESHELVE_PORT": str(port), **settings}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            image.command, cwd=image.inside(image.workdir), env=env, stdout=log, stderr=subprocess.STDOUT, **who(image)
        )
        try:
            yield process
        except BaseException:
            log.seek(0)
            print(log.read().decode())
            raise
        finally:
            process.kill()
            process.wait(10)


def healthy(image: Image, port: int) -> bool:
    env = {**image.environment(), "RESHELVE_PORT": str(port)}
    return subprocess.run(image.health, env=env, capture_output=True, **who(image)).returncode == 0


def test_the_image_answers_as_a_user_without_rights_and_stops_when_told(image: Image) -> None:
    port = free_port()
    tokens = json.dumps({"me": hashlib.sha256(TOKEN.encode()).hexdigest()})
    assert not healthy(image, port)
    with running(image, port, RESHELVE_AUTH__TOKENS=tokens) as process:
        until(lambda: healthy(image, port) or process.poll() is not None, 90)
        assert process.poll() is None
        if os.geteuid() == 0:
            assert psutil.Process(process.pid).uids().effective == 10001
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(address + "/healthz").status_code == 200
        assert httpx.get(address + "/api/version").json()["commit"] == "0123abcd"
        assert "<title>Reshelve</title>" in httpx.get(address + "/").text
        assert httpx.get(address + "/api/v1/catalogues").status_code == 401
        listed = httpx.get(address + "/api/v1/catalogues", headers={"Authorization": f"Bearer {TOKEN}"})
        assert listed.json()["items"] == []
        assert image.inside("/var/lib/reshelve/reshelve.db").is_file()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_without_a_token_it_does_not_start_and_says_why(image: Image) -> None:
    with running(image, free_port()) as process:
        assert process.wait(60) not in (0, None)


def test_its_user_can_write_its_data_and_nothing_else(image: Image) -> None:
    if os.geteuid() == 0:
        uid = int(image.user.partition(":")[0])
        owned = [path for path in image.root.rglob("*") if path.lstat().st_uid == uid]
        assert {path.relative_to(image.root).parts[:3] for path in owned} == {("var", "lib", "reshelve")}
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.user)


def test_the_command_line_is_in_it(image: Image) -> None:
    env = image.environment()
    done = subprocess.run(["sh", "-c", "reshelve --help"], env=env, capture_output=True, text=True, **who(image))
    assert done.returncode == 0, done.stderr
    assert "sync" in done.stdout + done.stderr


def test_only_what_it_needs_reaches_the_builder() -> None:
    for inside in ("requirements.lock", "alembic.ini", "alembic/env.py", "app/web/index.html", "app/main.py"):
        assert allowed(ROOT / inside), inside
    secrets = (".git/config", ".env", "deploy/secrets/auth_tokens", "app/.env", "reshelve.db")
    for outside in (*secrets, "tests/conftest.py", "app/__pycache__/main.pyc"):
        assert not allowed(ROOT / outside), outside


def test_nothing_is_compiled_and_everything_is_installed_by_its_hash() -> None:
    words = steps((ROOT / "Dockerfile").read_text())
    installs = [rest for word, rest in words if word == "RUN" and " install " in rest and "pip" in rest]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary=:all:" in installs[0]
    assert not any("apt-get" in rest or "curl" in rest for _, rest in words)


# --- compose ---------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    return found


def test_the_compose_file_fits_the_specification() -> None:
    schema = json.loads((ROOT / "tests" / "vendor" / "compose-spec" / "compose-spec.json").read_text())
    jsonschema.validate(compose(), schema)


def test_what_the_compose_file_names_is_there() -> None:
    file = compose()
    for name, service in file["services"].items():
        for network in service["networks"]:
            assert network in file["networks"], name
        for needed in service.get("depends_on", {}):
            assert needed in file["services"], name
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in file["secrets"], name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in file["volumes"] or (ROOT / "deploy" / source).resolve().is_file(), volume
    assert list(file["services"]["service"]["networks"]) == ["inner"]
    assert file["networks"]["inner"]["internal"] is True
    assert [name for name, service in file["services"].items() if "ports" in service] == ["nginx"]


def test_the_secrets_that_are_made_start_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "deploy" / "secrets.sh", tmp_path)
    made = subprocess.run(["sh", tmp_path / "secrets.sh"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    token = made.stderr.split()[-1]
    mounted = tmp_path / "run"
    mounted.mkdir()
    for secret in compose()["services"]["service"]["secrets"]:
        shutil.copy(tmp_path / "secrets" / secret["source"], mounted / secret["target"])
    for name, value in {"RESHELVE_HOST": "0.0.0.0", "RESHELVE_AUTH__MODE": "token"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_secrets_dir=mounted)  # type: ignore[call-arg]
    check_listening(settings)
    assert settings.auth.tokens == {"operator": hashlib.sha256(token.encode()).hexdigest()}
    password = (tmp_path / "secrets" / "postgres_password").read_text()
    assert (
        settings.database_url.get_secret_value() == f"postgresql+asyncpg://reshelve:{password}@postgres:5432/reshelve"
    )
    again = subprocess.run(["sh", tmp_path / "secrets.sh"], capture_output=True, text=True)
    assert again.returncode == 1
    assert (tmp_path / "secrets" / "postgres_password").read_text() == password
