"""The map as tables in Markdown and as a figure, from the records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.when.exposures import FORETOLD_ARMS, Foretold, map_arm, reproduction, summary
from benchmarks.when.outcomes import OUTCOMES, PRIMARY, Change, by_setting, change
from benchmarks.when.records import read_blocks
from benchmarks.when.settings import ARMS, BASELINE
from curate.storage.atomic import publish_file

SHORT = ("hard x2", "hard x3", "hard x5", "random x3", "easy x3", "late x3")
FAULTS = ("hard x3", "random x3", "hard x3 front", "hard reducible x3", "hard reducible x3 drop", "late x3")
LEAST_SEEDS = 3  # for an interval to be shown: with two it says nothing
Settings = Mapping[tuple[str, str], Sequence[dict[str, Any]]]
_HEAD = """# When does showing hard rows more often help?

Made by `python -m benchmarks.when --table` from the records beside this file; design and arms: `benchmarks/when`, what
is primary and what was stated before: `benchmarks/LOG.md`. Everything is against the data as it is, at equal optimizer
steps, by pairs of seeds; nats: change of nats per held-out token, exact: difference of exact answers in points. In
brackets 95 % intervals over seeds, where there are three or more. Negative nats and positive points are better.
"""


def write_tables(records: Path) -> None:
    """records/map.md, all outcomes of all arms in records/map-FAMILY.md, and records/map.svg."""
    settings = _ordered(by_setting(read_blocks(records)))
    publish_file(records / "map.md", "\n".join([_HEAD, *_short(settings), *_foretold(settings)]))
    for family in dict.fromkeys(family for family, _ in settings):
        own = {key: seeds for key, seeds in settings.items() if key[0] == family}
        publish_file(records / f"map-{family}.md", "\n".join(_full(family, own)))
    publish_file(records / "exposures.md", "\n".join(_exposures(settings, records.parent)) + "\n")
    draw(settings, records / "map.svg")


def _ordered(settings: Settings) -> Settings:
    """By family, what is known, faults and share; the families as they stand in the records."""
    families = list(dict.fromkeys(family for family, _ in settings))

    def place(key: tuple[str, str]) -> tuple[Any, ...]:
        setting = settings[key][0]["setting"]
        faults = (setting["unlearnable"], setting["noise"])
        return families.index(key[0]), setting["knows"] != "nothing", faults, setting["share"], key[1]

    return {key: settings[key] for key in sorted(settings, key=place)}


# -- tables ------------------------------------------------------------------------------------------------------------


def _short(settings: Settings) -> Iterator[str]:
    """Nats on the training mixture, the primary outcome: clean settings, then faulty ones."""
    for faulty, arms in ((False, SHORT), (True, FAULTS)):
        chosen = {key: seeds for key, seeds in settings.items() if _faulty(seeds) == faulty}
        if not chosen:
            continue
        title = "Shuffled completions and unlearnable rows" if faulty else "Clean rows"
        yield f"\n## {title}: nats on the training mixture\n"
        columns = ["family", "knows", "share", *(["fault"] if faulty else []), "hard rows", "budget", "seeds", BASELINE]
        yield _line([*columns, *arms, "exact points, hard x3"])
        yield _line(["---"] * (len(columns) + len(arms) + 1))
        for seeds in chosen.values():
            setting = seeds[0]["setting"]
            for budget in setting["budgets"]:
                changes = [change(seeds, arm, budget, PRIMARY) for arm in arms]
                base = next((each for each in changes if each is not None), None)
                if base is None:
                    continue
                hard = sum(each["hard_share"] for each in seeds) / len(seeds)
                cells = [setting["family"], setting["knows"], f"{setting['share']:g}"]
                cells += [_fault(setting)] if faulty else []
                cells += [f"{hard:.0%}", _budget(setting, budget), str(base.seeds), f"{base.base:.3g}"]
                exact = change(seeds, "hard x3", budget, "exact mixture")
                yield _line([*cells, *map(_relative, changes), _points(exact)])


def _full(family: str, settings: Settings) -> Iterator[str]:
    yield f"# Family {family}: every arm, every outcome\n"
    yield "Nats per token and exact answers of the original arm, and the change: nats relative, answers in points.\n"
    for (_, name), seeds in settings.items():
        setting = seeds[0]["setting"]
        yield f"\n## {name}\n"
        yield _line(["budget", "arm", "seeds", *(f"{of}: {BASELINE}, change" for of in OUTCOMES)])
        yield _line(["---"] * (3 + len(OUTCOMES)))
        for budget in setting["budgets"]:
            for arm in ARMS:
                changes = [change(seeds, arm, budget, outcome) for outcome in OUTCOMES]
                if arm == BASELINE or changes[0] is None:
                    continue
                cells = [_both(each, outcome) for each, outcome in zip(changes, OUTCOMES, strict=True)]
                yield _line([_budget(setting, budget), arm, str(changes[0].seeds), *cells])


def _foretold(settings: Settings) -> Iterator[str]:
    """Predicted against observed, in short."""
    predictions = list(foretold(settings))
    if not predictions:
        return
    yield "\n## What exposures foretell\n"
    yield "Nats on the mixture, from the original arm's curves of other seeds; every cell in `exposures.md`.\n"
    yield _line(["family", "arm", *_SUMMARY])
    yield _line(["---"] * (2 + len(_SUMMARY)))
    for family in dict.fromkeys(each.where.split()[0] for each in predictions):
        for arm in FORETOLD_ARMS:
            own = [each for each in predictions if each.arm == arm and each.where.split()[0] == family]
            if len(own) >= 3:
                yield _line([family, arm, *_agreement(own)])


def _exposures(settings: Settings, reproduction_records: Path) -> Iterator[str]:
    yield "# What exposures foretell: change of nats against the original arm, %\n"
    yield "exposures: from m_g alone; predicted: with the cost of repetition; `benchmarks/when/exposures.py`.\n"
    if (reproduction_records / "reproduction-limits-cpu.json").is_file():
        predictions = reproduction(reproduction_records)
        yield "\n## The arithmetic reproduction, balanced set\n"
        yield _line(["arms", *_SUMMARY])
        yield _line(["---"] * (1 + len(_SUMMARY)))
        yield _line(["all", *_agreement(predictions)])
        yield _line(["without random", *_agreement([each for each in predictions if "random" not in each.arm])])
        yield ""
        yield from _cells(predictions)
    predictions = list(foretold(settings))
    if predictions:
        yield "\n## The map, training mixture, clean settings\n"
        yield from _cells(predictions)


def _cells(predictions: Sequence[Foretold]) -> Iterator[str]:
    yield _line(["record or setting, budget", "arm", "exposures", "predicted", "observed", "seeds"])
    yield _line(["---"] * 6)
    for prediction in predictions:
        numbers = [f"{100 * x:+.1f}" for x in (prediction.exposures, prediction.predicted, prediction.observed)]
        yield _line([prediction.where, prediction.arm, *numbers, str(prediction.seeds)])


_SUMMARY = ("cells", "r", "sign right where 0.5 % or more is foretold", "predicted / observed")


def _agreement(predictions: Sequence[Foretold]) -> list[str]:
    agreement = summary(predictions)
    return [
        str(len(predictions)),
        f"{agreement['r']:.2f}",
        f"{agreement['sign_right']:.0%}",
        f"{agreement['overstated']:.2f}",
    ]


def foretold(settings: Settings) -> Iterator[Foretold]:
    """All arms that exposures can be computed for, in clean settings."""
    for seeds in settings.values():
        if _faulty(seeds):
            continue
        for budget in seeds[0]["setting"]["budgets"]:
            for arm in FORETOLD_ARMS:
                prediction = map_arm(seeds, arm, budget)
                if prediction is not None:
                    yield prediction


def _faulty(seeds: Sequence[dict[str, Any]]) -> bool:
    setting = seeds[0]["setting"]
    return bool(setting["noise"] or setting["unlearnable"])


def _fault(setting: Mapping[str, Any]) -> str:
    kinds = (("noise", "shuffled"), ("unlearnable", "unlearnable"))
    return ", ".join(f"{setting[key]:.0%} {name}" for key, name in kinds if setting[key])


def _budget(setting: Mapping[str, Any], budget: float) -> str:
    unit = "t_hard" if setting["unit_name"] == "t_hard" else "epochs"
    return f"{budget:g} {unit}"


def _relative(effect: Change | None) -> str:
    if effect is None or effect.relative is None:
        return ""
    bounds = "" if effect.seeds < LEAST_SEEDS else f" [{100 * effect.low:+.0f}, {100 * effect.high:+.0f}]"
    return f"{100 * effect.relative:+.1f}{bounds}"


def _points(effect: Change | None) -> str:
    if effect is None:
        return ""
    bounds = "" if effect.seeds < LEAST_SEEDS else f" [±{100 * effect.half:.1f}]"
    return f"{100 * effect.absolute:+.1f}{bounds} of {100 * effect.base:.0f} %"


def _both(effect: Change | None, outcome: str) -> str:
    if effect is None:
        return ""
    if outcome.startswith("nats"):
        return f"{effect.base:.3g}, {_relative(effect)} %"
    return _points(effect)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


# -- figure ------------------------------------------------------------------------------------------------------------


_COLUMNS = 4  # panels side by side, which a page still shows legibly
_RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2)  # ticks of an axis whose ends depend on the records


def draw(settings: Settings, path: Path) -> None:
    """Nats of an arm as a multiple of the original's, over the budget: a panel per family and what is known."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "when", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot, ticker
    from matplotlib.lines import Line2D

    panels: dict[tuple[str, str], list[Sequence[dict[str, Any]]]] = {}
    for (family, _), seeds in settings.items():
        if not _faulty(seeds):
            panels.setdefault((family, seeds[0]["setting"]["knows"]), []).append(seeds)
    if not panels:
        return
    shares = sorted({seeds[0]["setting"]["share"] for each in panels.values() for seeds in each})
    colormap = pyplot.get_cmap("viridis")
    colors = {share: colormap(k / len(shares)) for k, share in enumerate(shares)}
    styles = {"hard x3": "o-", "random x3": "x:"}
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (max(2.8 * columns, 4), 2.7 * rows + 0.6)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    for panel, ((family, knows), each) in zip(axes.flat, panels.items(), strict=False):
        budgets: set[float] = set()
        for seeds in each:
            setting = seeds[0]["setting"]
            budgets |= set(setting["budgets"])
            for arm, style in styles.items():
                points = [(b, change(seeds, arm, b, PRIMARY)) for b in setting["budgets"]]
                known = [(b, c) for b, c in points if c is not None and c.relative is not None]
                if known:
                    ratios = [1 + (c.relative or 0) for _, c in known]
                    panel.plot([b for b, _ in known], ratios, style, color=colors[setting["share"]], markersize=4)
        panel.axhline(1, color="0.7", linewidth=0.8)
        panel.set(xscale="log", yscale="log")
        name = family.replace("_given", ", pretrained proxy").replace("_", " ")
        panel.set_title(f"{name}\nknows {knows}", fontsize=9)
        panel.set_xlabel("budget / t_hard" if setting["unit_name"] == "t_hard" else "epochs")
        panel.set_xticks(sorted(budgets), [f"{budget:g}" for budget in sorted(budgets)])
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_locator(ticker.FixedLocator(_RATIOS))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(ticker.NullLocator())
        panel.spines[["top", "right"]].set_visible(False)
    figure.supylabel("nats, multiple of the original", fontsize=9)
    handles = [
        Line2D([], [], color=color, marker=style[0], linestyle=style[1:], markersize=4, label=f"{arm}, share {share:g}")
        for arm, style in styles.items()
        for share, color in colors.items()
    ]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=min(4, len(shares)))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
