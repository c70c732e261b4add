"""The pipeline and what it stands on: words, ports, and an adapter for each. It knows no table and no route."""
