"""Waiting for something outside of this process to become so."""

import threading
import time
from collections.abc import Callable

PAUSE = threading.Event()


def until(so: Callable[[], object], seconds: float = 60.0) -> None:
    """Look every few milliseconds until it is so; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it did not come to that"
        PAUSE.wait(0.02)
