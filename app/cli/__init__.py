"""The command line: `reshelve`, the same as `python -m app`.

Every verb but those that look after a machine (`serve`, `db upgrade`, `doctor`, `demo`) speaks to the HTTP API, by one
client. Where to:

- `--url` or `RESHELVE_URL`: there, and nowhere else;
- otherwise to the service on this machine's own port, when one answers;
- otherwise to the same app inside this process, worker included, for as long as the verb takes.

Data goes to stdout, words for people to stderr. `exits` lists what the exit codes mean.
"""

from app.cli.root import main

__all__ = ["main"]
