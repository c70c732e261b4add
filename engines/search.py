"""Elasticsearch and OpenSearch: configuration of an instance, its start, its health.

An instance shares the unpacked distribution, which nobody writes to, and has `config`, `data`, `logs`, `repo` and `tmp`
in a folder of its own.
"""

import http.client
import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from engines import homes, java
from engines.machine import Account, transport
from engines.plans import Instance, Plan
from engines.products import Product

VECTORS = "jdk.incubator.vector"
HEAPS = {"elasticsearch": ("RESHELVE_ES_HEAP", "1g"), "opensearch": ("RESHELVE_OS_HEAP", "2g")}


def plan(product: Product, instance: Instance, account: Account) -> Plan:
    """Fetch what is missing, write the configuration, and say how to start."""
    runtime = java.find(product.name, product.javas, account)
    home = homes.home(product)
    _write_config(product, instance, home, runtime.modules(account))
    pid_file = instance.folder / "pid"
    command = [str(home / "bin" / product.kind), "-p", str(pid_file)]
    if product.kind == "elasticsearch":
        command.append("-d")
    return Plan(command, pid_file, _environment(product, instance, runtime.home))


def _environment(product: Product, instance: Instance, java_home: Path) -> dict[str, str]:
    variable, usual = HEAPS[product.kind]
    heap = os.environ.get(variable, usual)
    prefix = "ES" if product.kind == "elasticsearch" else "OPENSEARCH"
    return {
        f"{prefix}_JAVA_HOME": str(java_home),
        f"{prefix}_PATH_CONF": str(instance.folder / "config"),
        f"{prefix}_TMPDIR": str(instance.folder / "tmp"),
        f"{prefix}_JAVA_OPTS": f"-Xms{heap} -Xmx{heap} -XX:-UsePerfData",
        "CLI_JAVA_OPTS": "-XX:-UsePerfData",
    }


def _write_config(product: Product, instance: Instance, home: Path, modules: str) -> None:
    target = instance.folder / "config"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(home / "config", target, copy_function=shutil.copyfile)
    for name in ("data", "logs", "repo", "tmp"):
        (instance.folder / name).mkdir(exist_ok=True)
    options = (target / "jvm.options").read_text()
    (target / "jvm.options").write_text(jvm_options(options, modules, instance.folder / "logs"))
    settings = _settings(product, instance) | dict(instance.config)
    (target / f"{product.kind}.yml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))


def jvm_options(text: str, modules: str, logs: Path) -> str:
    """The published options without collection logs, heap dumps and absent modules; crash files go to *logs*."""
    unwanted = ["gc.log", "HeapDump", "GCLog"] + ([] if VECTORS in modules else [VECTORS])
    kept = [line for line in text.splitlines() if not any(word in line for word in unwanted)]
    lines = [line if "ErrorFile=" not in line else f"-XX:ErrorFile={logs}/hs_err_pid%p.log" for line in kept]
    return "\n".join(lines) + "\n"


def _settings(product: Product, instance: Instance) -> dict[str, str]:
    """A single node on the loopback, as careful as a production about indices that appear by themselves."""
    folder, port = instance.folder, instance.port
    settings = {
        "cluster.name": f"reshelve-{port}",
        "node.name": f"n{port}",
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": str(port),
        "transport.port": str(transport(port)),
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "path.repo": f'["{folder / "repo"}"]',
        "action.auto_create_index": "false",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    if product.kind == "elasticsearch":
        settings["xpack.security.enabled"] = "false"
    return settings


# --- health ----------------------------------------------------------------------------------------------------------


def version_at(url: str) -> str | None:
    """The version that a healthy node answers with; None while it does not."""
    health = _get(f"{url}/_cluster/health?timeout=2s")
    if health is None or health.get("status") not in ("green", "yellow"):
        return None
    nodes = (_get(f"{url}/_nodes/_local?filter_path=nodes.*.version") or {}).get("nodes", {})
    return next((str(node["version"]) for node in nodes.values()), None)


def _get(url: str) -> dict[str, Any] | None:
    try:
        with _direct().open(url, timeout=5) as answer:
            found = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return found if isinstance(found, dict) else None


def _direct() -> urllib.request.OpenerDirector:
    """No proxy stands between us and the loopback."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def why_it_died(instance: Instance) -> str:
    """The first line of its log that sounds like a reason."""
    try:
        lines = instance.log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    telling = [line for line in lines if any(word in line for word in ("ERROR", "Exception", "rror:", "atal"))]
    return (telling or lines or [""])[0].strip()[:200]
