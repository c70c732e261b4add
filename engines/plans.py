"""How one instance is started: the command, its environment, and where it writes its process number."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instance:
    """Where an instance lives and listens; *config* are further settings of the server."""

    folder: Path
    port: int
    config: Mapping[str, str]

    @property
    def log(self) -> Path:
        """What the server says on its way up."""
        return self.folder / "server.log"


@dataclass(frozen=True)
class Plan:
    """A start that is ready to go."""

    command: Sequence[str]
    pid_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    polite: signal.Signals = signal.SIGTERM
