"""Seeded math word problems of known difficulty for demos, tests and benchmarks, without downloads."""
