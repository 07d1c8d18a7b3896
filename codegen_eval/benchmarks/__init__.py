"""Benchmarks: each module registers one reader under its name."""
