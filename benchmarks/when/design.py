"""The fixed fractional design of every family."""

from benchmarks.when.settings import ARMS, Setting

_PLAIN = tuple(name for name in ARMS if "reducible" not in name)
_NOISY = tuple(name for name in ARMS if name not in ("hard x2", "hard x5", "source x3"))


def _symbols(knows, share, unit, arms, budgets=(0.25, 0.5, 1, 2), **more) -> Setting:
    return Setting("symbols", knows, share, 8_000, 64, unit, "t_hard", budgets, arms, **more)


SYMBOLS_SETTINGS = (_symbols("nothing", 0.1, 600, _PLAIN),)
SYMBOLS_QUICK = SYMBOLS_SETTINGS
