"""Reshelve keeps a search index for retrieval (RAG) in step with a shop's catalogue.

It reads the shop's own index, renders one text a product, embeds it, builds the next *generation* of the target index
beside the live one, proves it, swaps the alias in one atomic act, and can swap back. One sentence to hold on to: every
change that readers see is either a whole proven generation behind an alias, or one document written with a version.

Words, one spelling each, in code, tables, routes, logs, metrics and pages:

- **Catalogue**: what is kept in step: a source, an alias, a recipe, a policy, a tenant
- **Recipe**: how a product becomes a document: fields, text template, cleaning, embedder, analyser; has a hash
- **Run**: one attempt to bring an alias up to date; queued, running, ready, failed, canceled
- **Stage**: where a running run is: planning, filling, sealing, verifying, promoting, cleaning
- **Generation**: one target index: draft, sealed, live, retired, refused, dropped
- **Plan**: what a run would do, counted and priced, before it does it
- **Strategy**: what a run builds on: incremental on a **clone** of the live generation, full on a fresh index;
  repair mends the live generation itself
- **Verdict**: what verification found: checks, figures, pass or refuse
- **Slice**: one of n disjoint parts of a point in time
- **Batch**: some documents of one slice, moving together
- **Document**: what is stored: id, fields, text, hashes, vector, model stamp
- **Holding**: what an index says of a document that it holds: its id, and the hash of the input it was made of
- **Change**: a product that a run found added, modified or deleted, in which fields; kept in the change log
- **Absence**: a product that an index holds and a point in time lacks; looked for again before it is deleted
- **Withheld**: deletions that a guard kept back; an **approval** is a new run with a **ceiling** of them
- **Kept vector**: one known by its text and its model, in an index of its own; forgotten when nothing uses it
- **Event**: a notice that something happened to a product; what is true is read from the source
- **Outbox**: the table in which events wait until they are applied; at most one entry waits for a product
- **Claim**: some entries of the outbox in one applier's hands, under one number and one lease
- **Lane**: priority or normal; the order in which events are claimed, with a share for each
- **Breaker**: holds work back from a dependency that is out, and lets one call at a time try
- **Trace**: one product from the source to every generation, and why it is found as it is
- **Reject**: a product left out, by rule, by its data or by the engine, with its reason
- **Lease**, **fence**: who may act, until when; the number that makes a late actor harmless
- **Version**: the number a source read takes before it reads, never given twice; the external version of every write
- **Epoch**: the number of the set of generations a catalogue feeds
- **Switch**: one numbered move of an alias, promotion or rollback; its number serves once
- **Progress**: one numbered line of a run's story; what streams send
- **Audit entry**: who did what administrative act, when, why

Read next: `app/sync/pipeline.py`.
"""

__version__ = "0.1.0"
