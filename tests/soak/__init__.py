"""A writer that never stops, everything else that may happen meanwhile, and a proof afterwards that nothing was lost.

    writer ──changes──▶ shop's index ◀──reads── appliers, runs ──▶ generations
       └──── tells, twice, late, in any order ──▶ outbox ───▲          ▲
    turmoil ──── runs, cancels, retries, rollbacks, recipes, workers ──┘

    python -m tests.soak --engine URL --seconds 60 --seed 7             all of it in one process
    python -m tests.soak.kills --engine URL --kills 100                 a service that is killed again and again
    pytest -m long tests/soak/test_outages.py                           engine, model, database out for a minute

When the time is over the writer tells what it has not told yet, the outbox runs empty, and `tests.soak.checks` compares
the shop with every generation that events reach. Nothing heals in between: no run is made at the end.
"""
