"""The tests, in folders named after the packages they test."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
