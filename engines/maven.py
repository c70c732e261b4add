"""Artefacts from the Maven repositories that this machine's Maven is set up for.

Maven keeps checksums and its own copy, so an artefact that was fetched once is not fetched again. A download that
breaks off is tried once more; then it is a trouble.
"""

import os
import re
import shutil
from pathlib import Path

from engines import java, shell
from engines.trouble import Trouble, say

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
NO_ROOM = ("No space left on device", "Disk quota exceeded")
UNKNOWN = ("Could not find artifact", "was not found in")
NOISE = re.compile(r"https?://\S+|-> \[Help 1\]|\[ERROR\]|org\.apache\.maven\.plugins:\S+")


def found() -> bool:
    """There is a Maven on this machine."""
    return shutil.which("mvn") is not None


def copy(artifact: str, into: Path) -> Path:
    """Fetch *artifact* (`group:name:version:type`) into the folder *into*; its file."""
    _, name, version, ending = artifact.split(":")
    say(f"fetching {name} {version}")
    _goal("copy", into, artifact, f"-Dartifact={artifact}", f"-DoutputDirectory={into}")
    file = into / f"{name}-{version}.{ending}"
    if not file.is_file():
        raise Trouble(f"Maven said that it fetched {artifact} and did not: look at its settings (mvn -X).")
    return file


def copy_with_dependencies(group: str, name: str, version: str, into: Path) -> None:
    """Fetch a library and all that it needs at run time into the folder *into*."""
    pom = into / "pom.xml"
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies><dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency></dependencies></project>"
    )
    _goal("copy-dependencies", into, f"{name} {version}", "-DincludeScope=runtime", f"-DoutputDirectory={into}")
    pom.unlink()


def _goal(goal: str, folder: Path, what: str, *options: str) -> None:
    if not found():
        raise Trouble(
            f"Maven is missing, which fetches {what}: install it (Debian: apt-get install maven) "
            "or install docker, whose images will do as well."
        )
    command = ["mvn", "-B", "-q", "-C", "-U", f"{PLUGIN}:{goal}", *options]
    said = ""
    for _ in range(2):
        done = shell.run(command, cwd=folder, extra=_environment())
        if done.returncode == 0:
            return
        said = done.stdout + done.stderr
        if any(word in said for word in (*NO_ROOM, *UNKNOWN)):
            break
    raise _trouble(what, folder, said)


def _environment() -> dict[str, str]:
    """Maven is a Java program itself: where it would find none, ours is named."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return {}
    return {"JAVA_HOME": str(java.for_maven())}


def _trouble(what: str, folder: Path, said: str) -> Trouble:
    if any(word in said for word in NO_ROOM):
        return Trouble(f"The disk became full while {what} was fetched: free some space below {folder} or in ~/.m2.")
    errors = [" ".join(NOISE.sub("", line).split()) for line in said.splitlines() if "ERROR" in line]
    why = errors[0][:160] if errors else "no reason given"
    if any(word in said for word in UNKNOWN):
        return Trouble(f"Maven's repositories do not have {what} ({why}): look at the mirrors in ~/.m2/settings.xml.")
    return Trouble(f"Fetching {what} broke off twice ({why}): look at the network and try again.")
