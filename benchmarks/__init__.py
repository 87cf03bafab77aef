"""What is measured, each figure beside its ceiling from the same run. `make bench`; with `QUICK=1` fewer rows.

Every benchmark is a module with `async def measure(stage, quick) -> list[Figure]`; `__main__` runs them on one embedded
PostgreSQL with production's settings (fsync on), and prints a table for `benchmarks/README.md`.
"""
