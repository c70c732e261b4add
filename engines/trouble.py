"""The one error of this package."""

import sys


class Trouble(Exception):
    """One sentence for a person: what is wrong and what to do about it."""


def say(text: str) -> None:
    """Tell a person what is going on; data alone goes to stdout."""
    print(f"engines: {text}", file=sys.stderr, flush=True)
