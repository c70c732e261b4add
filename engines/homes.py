"""Unpacked distributions: fetched with Maven, made whole where the published archive lacks parts, once per machine.

Elasticsearch's archive is the real server with fewer modules. OpenSearch 3's has all modules; OpenSearch 2's has one,
so the others are put together from their published jars. Some class files are changed as `classpatch` tells. The k-NN
plugin's archive has no native libraries: vectors work with `engine: lucene` only.
"""

import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from engines import cache, maven, shell
from engines.classpatch import patch_entitlements, patch_thai
from engines.machine import machine
from engines.products import Product
from engines.trouble import Trouble, say

EDITION = 2  # raised when distributions are put together differently, so that older ones are not taken for these
PLUGIN_GROUP = "org.opensearch.plugin"


@dataclass(frozen=True)
class Module:
    """A module of OpenSearch 2: its folder, its jar, its class, what it extends, and a security policy it needs."""

    name: str
    jar: str
    entry: str
    extends: str = ""
    policy: str = ""


_LOADERS = (
    'permission java.lang.RuntimePermission "createClassLoader"; '
    'permission java.lang.RuntimePermission "getClassLoader";'
)
_REMOTE = 'permission java.net.SocketPermission "*", "connect"; permission java.net.NetPermission "getProxySelector";'
_ANALYSIS = "org.opensearch.analysis.common"
MODULES = (
    Module("lang-painless", "lang-painless", "org.opensearch.painless.PainlessPlugin", policy=_LOADERS),
    Module("reindex", "reindex-client", "org.opensearch.index.reindex.ReindexPlugin", policy=_REMOTE),
    Module("analysis-common", "analysis-common", f"{_ANALYSIS}.CommonAnalysisPlugin", "lang-painless"),
    Module("mapper-extras", "mapper-extras-client", "org.opensearch.index.mapper.MapperExtrasPlugin"),
    Module("rank-eval", "rank-eval-client", "org.opensearch.index.rankeval.RankEvalPlugin"),
)


def home(product: Product) -> Path:
    """The unpacked distribution of *product*, fetched now if it is not there."""
    makers = {"elasticsearch": _make_elasticsearch, "opensearch": _make_opensearch, "postgres": _make_postgres}
    make = makers[product.kind]
    return cache.home(_name(product), lambda part: make(product, part), product.space)


def is_there(product: Product) -> bool:
    """The distribution was fetched before."""
    return (cache.root() / "homes" / _name(product)).is_dir()


def _name(product: Product) -> str:
    return f"{product.kind}-{product.version}-{EDITION}"


def unzip(archive: Path, into: Path) -> None:
    """Unpack a zip archive and forget it."""
    try:
        with zipfile.ZipFile(archive) as source:
            source.extractall(into)
    except zipfile.BadZipFile:
        raise Trouble(f"{archive.name} is not whole: remove it from ~/.m2/repository and try again.") from None
    except OSError as error:
        why = error.strerror
        raise Trouble(f"{archive.name} could not be unpacked below {into} ({why}): free some space there.") from None
    archive.unlink()


def _unpack_server(product: Product, part: Path) -> None:
    """Unpack the archive's one folder as *part* itself."""
    archive = maven.copy(product.artifact, part)
    unzip(archive, part)
    (top,) = part.glob(f"{product.kind}-*")
    for path in top.iterdir():
        path.rename(part / path.name)
    top.rmdir()
    (part / "plugins").mkdir(exist_ok=True)
    for script in part.glob("bin/*"):
        script.chmod(0o755)


def _make_elasticsearch(product: Product, part: Path) -> None:
    _unpack_server(product, part)
    for jar in part.glob(f"lib/elasticsearch-entitlement-{product.version}.jar"):
        patch_entitlements(jar)


def _make_opensearch(product: Product, part: Path) -> None:
    _unpack_server(product, part)
    if not (part / "modules/reindex").is_dir():
        for module in MODULES:
            _assemble(module, product.version, part)
    for jar in part.rglob("lucene-analysis-common-*.jar"):
        patch_thai(jar)
    plugin = part / "plugins/opensearch-knn"
    plugin.mkdir()
    unzip(maven.copy(product.knn, plugin), plugin)


def _assemble(module: Module, version: str, part: Path) -> None:
    """Put a module's folder together; jars that the server has already would be refused as doubles."""
    say(f"putting together the module {module.name}")
    folder = part / "modules" / module.name
    folder.mkdir(parents=True)
    maven.copy_with_dependencies(PLUGIN_GROUP, module.jar, version, folder)
    served = {jar.name for jar in part.glob("lib/*.jar")} | {f"opensearch-{version}.jar"}
    for jar in folder.glob("*.jar"):
        if jar.name in served:
            jar.unlink()
    descriptor = {
        "description": module.name,
        "version": version,
        "name": module.name,
        "classname": module.entry,
        "java.version": "11",
        "opensearch.version": version,
        "custom.foldername": "",
        "extended.plugins": module.extends,
        "has.native.controller": "false",
    }
    lines = [f"{key}={value}\n" for key, value in descriptor.items()]
    (folder / "plugin-descriptor.properties").write_text("".join(lines))
    if module.policy:
        (folder / "plugin-security.policy").write_text(f"grant {{ {module.policy} }};\n")


def _make_postgres(product: Product, part: Path) -> None:
    jar = maven.copy(product.artifact.format(machine=machine()), part)
    unzip(jar, part)
    (archive,) = part.glob("*.txz")
    _untar(archive, part)
    archive.unlink()
    shutil.rmtree(part / "META-INF", ignore_errors=True)


def _untar(archive: Path, into: Path) -> None:
    """A Python that was built without lzma leaves the work to tar."""
    try:
        with tarfile.open(archive, "r:xz") as source:
            # Named as an attribute, not an argument: Pythons before 3.11.4 have neither.
            source.extraction_filter = getattr(tarfile, "tar_filter", None)
            source.extractall(into)
    except tarfile.CompressionError:
        done = shell.run(["tar", "-xJf", str(archive), "-C", str(into)])
        if done.returncode:
            why = shell.reason(done)
            raise Trouble(f"{archive.name} could not be unpacked ({why}): install xz-utils.") from None
