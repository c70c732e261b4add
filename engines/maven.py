"""Artefacts from the Maven repositories that this machine's Maven is set up for.

Maven keeps its own copy, so an artefact that was fetched once is not fetched again. A download that breaks off is
tried once more; then it is a trouble. What is in an archive is pinned here: a mirror may have lost the checksums beside
it, and would be believed if it had other ones.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path

from engines import java, shell
from engines.trouble import Trouble, say

_ELASTICSEARCH = "org.elasticsearch.distribution.integ-test-zip:elasticsearch"
_OPENSEARCH = "org.opensearch.distribution.integ-test-zip:opensearch"
_KNN = "org.opensearch.plugin:opensearch-knn"
_POSTGRES = "io.zonky.test.postgres:embedded-postgres-binaries-linux"
SHA256 = {
    f"{_ELASTICSEARCH}:9.5.3:zip": "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d",
    f"{_ELASTICSEARCH}:8.19.21:zip": "215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a",
    f"{_OPENSEARCH}:3.5.0:zip": "b676ad392c95a94d8d2bd8785b8b922c7811536daf6a9ec0c7277a34bd8a17a9",
    f"{_OPENSEARCH}:2.19.1:zip": "af7152d8b7f6f1cee09d47276b32b70479fe6dd8cdbb61213f84eb7f8098b261",
    f"{_KNN}:3.5.0.0:zip": "99fdf3ac9ef95974e276298b83a58532bf21ba13bd5fd96a4b59465b7e613309",
    f"{_KNN}:2.19.1.0:zip": "eab8c9818865bc035212eab5068cdacae164baa09d4c152f49b736d6f6b0e85c",
    f"{_POSTGRES}-amd64:17.5.0:jar": "646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe",
    f"{_POSTGRES}-arm64v8:17.5.0:jar": "e02f27ff50ff2d90b6541d54f3f108505aacd84ea53c2890e976a684bfea2752",
}
"""What each artefact's content must be."""

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
NO_ROOM = ("No space left on device", "Disk quota exceeded")
UNKNOWN = ("Could not find artifact", "was not found in")
NOISE = re.compile(r"https?://\S+|-> \[Help 1\]|\[ERROR\]|org\.apache\.maven\.plugins:\S+")


def found() -> bool:
    """There is a Maven on this machine."""
    return shutil.which("mvn") is not None


def copy(artifact: str, into: Path) -> Path:
    """Fetch *artifact* (`group:name:version:type`, one of `SHA256`) into the folder *into*; its file."""
    _, name, version, ending = artifact.split(":")
    say(f"fetching {name} {version}")
    _goal("copy", into, artifact, "-c", f"-Dartifact={artifact}", f"-DoutputDirectory={into}")
    file = into / f"{name}-{version}.{ending}"
    if not file.is_file():
        raise Trouble(f"Maven said that it fetched {artifact} and did not: look at its settings (mvn -X).")
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() == SHA256[artifact]:
            return file
    raise Trouble(f"{artifact} is not what it was when it was pinned: remove it from ~/.m2/repository and try again.")


def copy_with_dependencies(group: str, name: str, version: str, into: Path) -> None:
    """Fetch a library and all that it needs at run time into the folder *into*."""
    pom = into / "pom.xml"
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies><dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency></dependencies></project>"
    )
    _goal("copy-dependencies", into, f"{name} {version}", "-C", "-DincludeScope=runtime", f"-DoutputDirectory={into}")
    pom.unlink()


def _goal(goal: str, folder: Path, what: str, *options: str) -> None:
    if not found():
        raise Trouble(
            f"Maven is missing, which fetches {what}: install it (Debian: apt-get install maven) "
            "or install docker, whose images will do as well."
        )
    command = ["mvn", "-B", "-q", "-U", f"{PLUGIN}:{goal}", *options]
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
