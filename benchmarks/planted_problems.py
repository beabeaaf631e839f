"""Measure which planted faults the checks of synthesis let through, and which sound problems they reject."""

from __future__ import annotations

import argparse
import json
import platform
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from augmenters.synthesis.checks import grounded
from augmenters.synthesis.checks.difference import difference
from augmenters.synthesis.checks.quantities import equations
from augmenters.synthesis.checks.registry import CHECKS, Check
from augmenters.synthesis.checks.second_route import text_answer
from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import KEPT, SecondRoute, SourceRow, SynthesisSettings, Variant
from benchmarks.planting import HARSHER, IN_NUMBERS, Case, Errors, Solver, cases, gym_problems, word_problems
from benchmarks.planting_wordings import DEVELOP, JUDGE, WORDED
from curate.generators.requests import Completion, Sampling
from curate.report.synthesis_funnel import wilson
from curate.verify import Verdict, grade
from curate.verify.verdict import PassRateBand

_DETAILS = """\
    python -m benchmarks.planted_problems --gym reasoning_gym_math.parquet --out results/planted-problems.json

400 problems whose truth can be computed: half as they are, a quarter with one number altered so that the parent's
answer is wrong, a quarter with a missing, contradictory or superfluous condition. With `--worded`, half is
spoiled in words instead: another unit, a remark with a number, an impossible result, the answer told, two questions, a
vague amount. Every rule judges the same solutions. `--develop` uses the families, wordings and seeds on which the
checks were tuned; what is judged uses others.
"""

ACCURACIES = (0.1, 0.3, 0.6, 0.9)
PARTS = {
    "develop": (("shopping", "mixtures", "ages", "percentages"), ("chain_sum", "decimal_chain_sum"), 100),
    "judge": (("geometry", "patterns", "travel", "work"), ("products", "simple_equations", "simple_geometry"), 0),
}
PRESENT, BAND, ALL = "present: band 1 to 5, no checks", "band 2 to 5 alone", "band 2 to 5, all checks"
WORDS_ASIDE = "band 2 to 5, all checks; what cannot be read counts neither way"


def rules() -> dict[str, tuple[PassRateBand, frozenset[Check]]]:
    """Rule -> its band and its checks."""
    band, every = PassRateBand(2, 5, 8), frozenset(CHECKS)
    rules_by_name: dict[str, tuple[PassRateBand, frozenset[Check]]] = {
        PRESENT: (PassRateBand(1, 5, 8), frozenset({"answer_hidden"})),
        BAND: (band, frozenset({"answer_hidden"})),
    }
    rules_by_name |= {f"band 2 to 5 and {check}": (band, frozenset({check})) for check in CHECKS}
    rules_by_name |= {f"{ALL} but {check}": (band, every - {check}) for check in CHECKS}
    rules_by_name |= {ALL: (band, every), WORDS_ASIDE: (band, every)}
    return {**rules_by_name, "band 1 to 5, all checks": (PassRateBand(1, 5, 8), every)}


def judge(case: Case, solver: Solver, seed: int, band: PassRateBand, checks: frozenset[Check]) -> Variant:
    """What becomes of a case under a rule."""
    settings = SynthesisSettings(
        variants=1,
        band=band,
        variation_sampling=Sampling(),
        solution_sampling=Sampling(),
        variation_prompt="{{solution}}",
        solution_prompt="{{problem}}",
        longest_problem=5000,
        grade=_grade,
        screen=lambda problems: [None] * len(problems),
        checks=checks,
        second=SecondRoute(3, "{{problem}}", Sampling(), text_answer, _grade) if "second_route" in checks else None,
    )
    source = SourceRow(0, case.name, case.parent, "solution", case.answer)
    group = VariantGroup(source, settings, seed)
    requests = group.begin()
    while requests:
        request, ticket = requests.pop(0)
        if ticket.kind == "proposal":
            completion = Completion(f"```text\n{case.problem}\n```", "stop", 100, 80)
        else:
            completion = solver.solve(ticket.kind, ticket.sample)
        requests += group.receive(ticket, request, completion)
    return group.variants[0]


def _grade(text: str, source: SourceRow) -> Verdict:
    return _graded(text, source.answer)


@cache
def _graded(text: str, answer: str) -> Verdict:
    return grade(text, answer, strong_only=True)


def _words_aside(problem: str, right: Sequence[str], least: int) -> str | None:
    """The check `grounded` if solutions without readable equations counted neither way."""
    faults = [grounded.solution_fault(problem, text) for text in right if equations(text)]
    known_faults = [problem_found for problem_found in faults if problem_found is not None]
    return known_faults[0] if known_faults and 2 * len(known_faults) >= len(faults) else None


def study(
    planted: Sequence[Case], accuracies: Sequence[float], seed: int, errors: Errors, wanted: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """A record for each accuracy and rule. wanted: names of rules; () = all."""
    kinds = [kind for kind in dict.fromkeys(case.kind for case in planted) if kind != "sound"]
    for accuracy in accuracies:
        solvers = [Solver(case, accuracy, seed, errors) for case in planted]
        for rule, (band, checks) in rules().items():
            if wanted and rule not in wanted:
                continue
            check = _words_aside if rule == WORDS_ASIDE else grounded.fault
            with patch.object(grounded, "fault", check):
                judged = [
                    (case, judge(case, solver, seed, band, checks))
                    for case, solver in zip(planted, solvers, strict=True)
                ]
            sound = [variant for case, variant in judged if case.kind == "sound"]
            unsound = [(case, variant) for case, variant in judged if case.kind != "sound"]
            in_band = [each for each in sound if each.drawn and band.decide(*_counts(each)) == "in the band"]
            in_band += [each for each in sound if not each.drawn]  # rejected before anything was solved
            accepted = [case.kind for case, variant in unsound if variant.outcome == KEPT]
            kept = sum(variant.outcome == KEPT for variant in sound)
            tokens = sum(variant.completion_tokens for _, variant in judged)
            requests = sum(1 + len(variant.drawn) + len(variant.second) for _, variant in judged)
            yield {
                "accuracy": accuracy,
                "rule": rule,
                "sound": len(sound),
                "unsound": len(unsound),
                "sound kept": kept,
                "unsound kept": len(accepted),
                "false accepts": len(accepted) / len(unsound),
                "interval": wilson(len(accepted), len(unsound)),
                "by kind": {
                    kind: [accepted.count(kind), sum(case.kind == kind for case, _ in unsound)] for kind in kinds
                },
                "false rejects": 1 - kept / len(sound),
                "false rejects in the band": 1 - kept / len(in_band) if in_band else None,
                "sound of kept": kept / (kept + len(accepted)) if kept + len(accepted) else None,
                "sound kept per request": kept / requests,
                "sound kept per 1,000 tokens": 1000 * kept / tokens,
                "sound rejected by": dict(Counter(str(each.outcome) for each in sound if each.outcome != KEPT)),
            }


def _counts(variant: Variant) -> tuple[int, int, int]:
    return variant.count(Verdict.right), variant.count(Verdict.undecided), len(variant.drawn)


def near_copies(planted: Sequence[Case]) -> dict[str, Any]:
    """The check of differences apart: problems with other names and numbers alone, and problems of other families."""
    names = {"Ada": "Zoe", "Tom": "Uma"}
    copies = []
    for case in planted:
        text = re.sub(r"\d+", lambda number: str(int(number[0]) + 7), case.problem)
        text = re.sub(r"(?<=[a-z] )[A-Z][a-z]+", lambda name: names.get(name[0], "Ada"), text)
        copies.append(difference(text, case.problem))
    others = [difference(case.problem, case.parent) for case in planted]
    return {
        "names and numbers changed, difference below 0.2": sum(each < 0.2 for each in copies) / len(copies),
        "another problem, difference below 0.2": sum(each < 0.2 for each in others) / len(others),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gym", type=Path, help="reasoning_gym_math.parquet; without it all are word problems")
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--develop", action="store_true", help="the families and seeds of development")
    parser.add_argument("--harsher", action="store_true", help="a solver whose errors agree more, and say less")
    parser.add_argument("--worded", action="store_true", help="problems that are spoiled in words")
    parser.add_argument("--rule", action="append", default=[], help="a rule to judge by; repeatable (all)")
    parser.add_argument("--out", type=Path, help="JSON file for the record; a page of tables is written beside it")
    options = parser.parse_args()
    families, subjects, shift = PARTS["develop" if options.develop else "judge"]
    seed = options.seed + shift
    gym = options.problems // 4 if options.gym else 0
    problems = word_problems(families, 2 * (options.problems - gym), seed)
    if gym:
        problems = _mixed(problems, gym_problems(options.gym, subjects, 2 * gym, seed))
    kinds, wordings = WORDED if options.worded else IN_NUMBERS, DEVELOP if options.develop else JUDGE
    planted = cases(problems, seed, kinds, wordings)[: options.problems]
    errors = HARSHER if options.harsher else Errors()
    results = list(study(planted, ACCURACIES, seed, errors, options.rule))
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.planted_problems", *sys.argv[1:]]),
        "device": f"{platform.processor() or platform.machine()}",
        "errors": asdict(errors),
        "kinds": dict(Counter(case.kind for case in planted)),
        "near_copies": near_copies(planted),
        "results": results,
    }
    for each in results:
        print(
            f"{each['accuracy']:.1f}  {each['rule']:50s} unsound kept {each['false accepts']:6.1%}  sound not kept "
            f"{each['false rejects']:6.1%} (in the band {each['false rejects in the band'] or 0:6.1%})  sound of kept "
            f"{each['sound of kept'] or 0:6.1%}  {each['by kind']}"
        )
    print(record["near_copies"], record["kinds"])
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(page(record), encoding="utf-8")
    return 0


def page(record: dict[str, Any]) -> str:
    """The record as tables: rules by accuracy."""
    results = {(each["rule"], each["accuracy"]): each for each in record["results"]}
    rules_of = list(dict.fromkeys(each["rule"] for each in record["results"]))
    lines = [
        "# Planted problems: what each rule lets through and rejects",
        "",
        f"`{record['command']}`. Problems: {record['kinds']}. Errors of the solver: {record['errors']}. How it was",
        "planned stands in `benchmarks/LOG.md`. Each column is an accuracy of the scripted solver.",
    ]
    tables = (
        ("Unsound problems kept (false accepts), 95 % interval", lambda each: _with_interval(each)),
        ("Sound problems not kept (false rejects), the band included", lambda each: f"{each['false rejects']:.1%}"),
        ("Sound problems in the band that checks turn away", lambda each: _share(each["false rejects in the band"])),
        ("Sound among those kept", lambda each: _share(each["sound of kept"])),
        ("Sound kept per 100 requests", lambda each: f"{100 * each['sound kept per request']:.2f}"),
        ("Sound kept per 1,000 tokens", lambda each: f"{each['sound kept per 1,000 tokens']:.3f}"),
        (
            f"Unsound kept by kind: {', '.join(record['results'][0]['by kind'])}",
            lambda each: " ".join(f"{kept}/{of}" for kept, of in each["by kind"].values()),
        ),
    )
    for title, shown in tables:
        lines += ["", f"## {title}", "", "| rule | 0.1 | 0.3 | 0.6 | 0.9 |", "| --- | --- | --- | --- | --- |"]
        lines += [
            "| " + " | ".join([rule, *(shown(results[rule, accuracy]) for accuracy in ACCURACIES)]) + " |"
            for rule in rules_of
        ]
    near = record["near_copies"]
    lines += ["", "## The check of differences alone", "", *(f"- {name}: {value:.1%}" for name, value in near.items())]
    return "\n".join([*lines, ""])


def _with_interval(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    return f"{result['false accepts']:.1%} ({low:.1%} to {high:.1%})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _mixed(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Three of the first, then one of the second, and so on."""
    rest = iter(second)
    return [each for place, one in enumerate(first) for each in ([one] if place % 3 else [one, *_next(rest)])]


def _next(rest: Iterator[Any]) -> list[Any]:
    return [found] if (found := next(rest, None)) is not None else []


if __name__ == "__main__":
    sys.exit(main())
