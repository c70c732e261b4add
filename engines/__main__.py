"""The command line: `python -m engines fetch|start|stop|wipe NAME...` and `status`; addresses go to stdout."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.launcher import fetch, launch, status, stop, wipe
from engines.products import PRODUCTS, product
from engines.programs import find_chromium, find_nginx, find_promtool
from engines.trouble import Trouble, say

PROGRAMS = {"chromium": find_chromium, "nginx": find_nginx, "promtool": find_promtool}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; 0, or 1 after a trouble, which is one sentence on stderr."""
    asked = _parser().parse_args(arguments)
    try:
        return {"fetch": _fetch, "start": _start, "stop": _stop, "wipe": _wipe, "status": _status}[asked.verb](asked)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("fetch", "start", "stop", "wipe"):
        sub = verbs.add_parser(verb)
        sub.add_argument("names", nargs="+", metavar="NAME", help=", ".join(PRODUCTS))
        if verb == "fetch":
            continue
        sub.add_argument("--port", type=int, help="another port than the usual one (one NAME only)")
        if verb == "start":
            sub.add_argument("--data", type=Path, help="the folder for all that it writes (one NAME only)")
            sub.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="a further setting")
    verbs.add_parser("status")
    return parser


def _fetch(asked: argparse.Namespace) -> int:
    for name in asked.names:
        if name in PROGRAMS:
            PROGRAMS[name]()
        else:
            fetch(name)
    return 0


def _start(asked: argparse.Namespace) -> int:
    if len(asked.names) > 1 and (asked.port or asked.data):
        raise Trouble("A port or a data folder is for one server: start them one after the other.")
    config = dict(_pair(text) for text in asked.config)
    for name in asked.names:
        product(name)
    for name in asked.names:
        server = launch(name, port=asked.port, data=asked.data, config=config)
        how = "started" if server.started else "runs already"
        say(f"{name} {server.version} {how}, pid {server.pid or '-'}, log {server.log or '-'}")
        print(server.url, flush=True)
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Trouble(f"'{text}' is not a setting: write --config key=value.")
    return key, value


def _stop(asked: argparse.Namespace) -> int:
    for name in asked.names:
        product(name)
        servers = stop(name, asked.port)
        say(f"{name}: " + (", ".join(f"stopped on port {server.port}" for server in servers) or "was not running"))
    return 0


def _wipe(asked: argparse.Namespace) -> int:
    for name in asked.names:
        product(name)
        servers = wipe(name, asked.port)
        say(f"{name}: " + (", ".join(f"wiped on port {server.port}" for server in servers) or "nothing was there"))
    return 0


def _status(_: argparse.Namespace) -> int:
    for server, state in status():
        who = str(server.container or server.pid or "-")
        print(server.name, server.version, state, server.url, who, server.folder or "-", sep="\t")
    return 0


if __name__ == "__main__":
    sys.exit(main())
