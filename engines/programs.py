"""Programs that tests need beside the servers: a Chromium, an nginx, a promtool; none to be had is a trouble."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engines import apt, cache, shell
from engines.products import MEGABYTE
from engines.trouble import Trouble, say

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NGINXES = ("nginx", "/usr/sbin/nginx")
PROMTOOL_SPACE = 150 * MEGABYTE
PLAYWRIGHTS = ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/chrome-*/*headless*shell")


def find_chromium() -> Path:
    """A Chromium: `RESHELVE_CHROMIUM`, this machine's, Playwright's, else Debian's or Playwright's installed now."""
    found = _named("RESHELVE_CHROMIUM") or _which(*CHROMIUMS) or _playwrights()
    if found:
        return found
    reason = apt.install("chromium") if apt.usable() else "apt-get needs root"
    found = _which(*CHROMIUMS)
    if found:
        return found
    fetched = _fetch_playwrights()
    found = _playwrights()
    if found:
        return found
    raise Trouble(
        f"No Chromium was found and none could be installed (Debian's: {reason}; Playwright's: {fetched}): "
        "install one, or name it with RESHELVE_CHROMIUM."
    )


def find_nginx(places: Sequence[str] = NGINXES) -> Path:
    """An nginx: `RESHELVE_NGINX`, this machine's in *places*, else Debian's installed now."""
    found = _named("RESHELVE_NGINX") or _which(*places)
    if found:
        return found
    reason = apt.install("nginx-light") if apt.usable() else "apt-get needs root"
    found = _which(*places)
    if found:
        return found
    raise Trouble(f"No nginx was found nor could be installed ({reason}): install it, or name it with RESHELVE_NGINX.")


def find_promtool() -> Path:
    """A promtool: `RESHELVE_PROMTOOL`, this machine's, else that of Debian's prometheus, unpacked once per machine."""
    return _named("RESHELVE_PROMTOOL") or _which("promtool") or _unpacked_promtool()


def _unpacked_promtool() -> Path:
    """The one file of the package that is needed: no server is installed for it."""

    def make(part: Path) -> None:
        reason = apt.fetch("prometheus", part)
        if reason:
            raise Trouble(
                f"No promtool was found nor could be fetched ({reason}): install it, or name it with RESHELVE_PROMTOOL."
            )
        (part / "usr/bin/promtool").rename(part / "promtool")
        for rest in part.iterdir():
            if rest.is_dir():
                shutil.rmtree(rest)

    return cache.home("promtool", make, PROMTOOL_SPACE) / "promtool"


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if value and not os.access(value, os.X_OK):
        raise Trouble(f"{variable} names {value}, which is no program: name another or unset it.")
    return Path(value) if value else None


def _which(*names: str) -> Path | None:
    found = next((path for path in map(shutil.which, names) if path), None)
    return Path(found) if found else None


def _playwrights() -> Path | None:
    """What Playwright fetched before."""
    place = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright")
    found = [path for pattern in PLAYWRIGHTS for path in sorted(place.glob(pattern), reverse=True)]
    return next((path for path in found if os.access(path, os.X_OK)), None)


def _fetch_playwrights() -> str:
    """Let Playwright fetch its Chromium; empty when it went well, else the reason in short."""
    say("fetching Playwright's Chromium")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    try:
        done = shell.run(command, timeout=600)
    except subprocess.TimeoutExpired:
        return "not fetched within 10 minutes"
    return "" if done.returncode == 0 else shell.reason(done)
