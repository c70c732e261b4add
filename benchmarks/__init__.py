"""Benchmarks: ratios of one run, next to the floor and to what a user would pick instead. See README.md beside this."""
