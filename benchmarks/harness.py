"""Compare `curate evaluate` with lm-evaluation-harness on the same model, questions and solved examples."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from curate.evaluation.answers import graded
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.evaluate import evaluate
from curate.evaluation.prompts import draw_shots, form_of, generation_prompts, pieces
from curate.evaluation.results import EvaluationResult
from curate.evaluation.sets import Questions, read_set
from curate.generators.requests import Completion
from curate.models.loading import load_tokenizer

_DETAILS = """\
    python benchmarks/harness.py MODEL --data gsm8k.parquet --harness ENVIRONMENT/bin/python --work FOLDER
        [--items 200] [--shots 4] [--scored 40] [--max-tokens 256] [--part ours|theirs|both] [--out FILE.json]

--data has `split`, `question`, `answer` and `final_answer`; `--harness` is the interpreter of an environment that has
lm_eval. The harness gets the questions and the solved examples as local files and builds its prompts itself; the two
prompts of each row are compared. Answers: greedy, float32; the harness takes the number behind "#### " (strict) or the
last number (flexible) and compares text, curate compares values. Losses: log-likelihood of the reference completions
of `--scored` rows, end of text included, without solved examples. Both sides resume: curate from its request store, the
harness from its own cache. All is printed; the record holds every row on which the two disagree.
"""

NUMBER = "#### (\\-?[0-9\\.\\,]+)"
LAST_NUMBER = "(-?[$0-9.,]{2,})|(-?[0-9]+)"
ANSWERS, LOSSES = "curate_answers", "curate_losses"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="with the splits train and test")
    parser.add_argument("--harness", required=True, help="interpreter that can import lm_eval")
    parser.add_argument("--work", required=True, type=Path, help="folder for what both sides keep to resume from")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--scored", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("ours", "theirs", "both"), default="both")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sides = Sides(options)
    seconds = {}
    if options.part != "theirs":
        seconds["curate"] = timed(sides.ours)
    if options.part != "ours":
        sides.write_tasks()
        seconds["harness"] = timed(sides.run_harness)
    if options.part == "both":
        record = sides.record(seconds)
        print(json.dumps({name: value for name, value in record.items() if name != "disagreements"}, indent=1))
        if options.out:
            options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def timed(work: Any) -> float:
    started = time.monotonic()
    work()
    return round(time.monotonic() - started, 1)


class Sides:
    """One comparison: what is asked, and how each side is asked it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        pool = EvaluationSet(data=options.data, where="split=train")
        shared: dict[str, Any] = {"max_tokens": options.max_tokens, "precision": "float32", "seed": options.seed}
        self.answers = Evaluation(
            style="question", shots=options.shots, shots_from=pool, nll=False, batch_size=options.batch_size, **shared
        )
        self.losses = Evaluation(style="question", generate=False, **shared)
        self.sets = {
            ANSWERS: EvaluationSet(data=options.data, where="split=test", limit=options.items, name=ANSWERS),
            LOSSES: EvaluationSet(data=options.data, where="split=test", limit=options.scored, name=LOSSES),
        }
        self.questions = {name: read_set(each) for name, each in self.sets.items()}
        self.shots = draw_shots(self.answers, read_set(pool), self.questions[ANSWERS])
        self.tokenizer = load_tokenizer(options.model)
        self.results: dict[str, EvaluationResult] = {}

    def ours(self) -> None:
        for name, settings in ((ANSWERS, self.answers), (LOSSES, self.losses)):
            work = self.options.work
            self.results |= evaluate(
                self.options.model, [self.sets[name]], settings, out=work / "curate", cache=work / "cache", device="cpu"
            )

    # -- the harness --------------------------------------------------------------------------------------------------

    def write_tasks(self) -> None:
        """Two tasks of the harness with their data."""
        place = self.options.work / "tasks"
        place.mkdir(exist_ok=True)
        for name, questions in self.questions.items():
            rows = zip(questions.texts, self.targets(name, questions), strict=True)
            _write_lines(place / f"{name}.jsonl", [{"question": q, "answer": a} for q, a in rows])
            shots = zip(self.shots.questions, self.shots.solutions, strict=True)
            _write_lines(place / f"{name}-shots.jsonl", [{"question": q, "answer": a} for q, a in shots])
            (place / f"{name}.yaml").write_text(yaml.safe_dump(self.task(name, place), sort_keys=False))

    def targets(self, name: str, questions: Questions) -> list[str]:
        if name == ANSWERS:
            return [f"{text}\n#### {a}" for text, a in zip(questions.completions, questions.answers, strict=True)]
        # It puts no space of its own before what it only scores.
        return [f" {text}{self.tokenizer.eos_token}" for text in questions.completions]

    def task(self, name: str, place: Path) -> dict[str, Any]:
        files = {"train": f"{name}-shots.jsonl", "test": f"{name}.jsonl"}
        common: dict[str, Any] = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {split: str((place / file).absolute()) for split, file in files.items()}},
            "test_split": "test",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
        }
        if name == LOSSES:
            metrics = [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
            return {**common, "output_type": "loglikelihood", "num_fewshot": 0, "metric_list": metrics}
        exact = {
            "metric": "exact_match",
            "aggregation": "mean",
            "higher_is_better": True,
            "ignore_case": True,
            "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
        }
        strict = {"function": "regex", "regex_pattern": NUMBER}
        flexible = {"function": "regex", "group_select": -1, "regex_pattern": LAST_NUMBER}
        return {
            **common,
            "output_type": "generate_until",
            "num_fewshot": self.options.shots,
            "generation_kwargs": {
                "until": ["Question:"],
                "do_sample": False,
                "max_gen_toks": self.options.max_tokens,
            },
            "metric_list": [exact],
            "filter_list": [
                {"name": "strict", "filter": [strict, {"function": "take_first"}]},
                {"name": "flexible", "filter": [flexible, {"function": "take_first"}]},
            ],
        }

    def run_harness(self) -> None:
        work = self.options.work
        command = [
            *(self.options.harness, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"),
            *("--model_args", f"pretrained={self.options.model},dtype=float32"),
            *("--tasks", f"{ANSWERS},{LOSSES}", "--include_path", str(work / "tasks")),
            *("--batch_size", str(self.options.batch_size), "--use_cache", str(work / "harness-cache")),
            *("--output_path", str(work / f"harness-{self.options.items}-{self.options.scored}"), "--log_samples"),
        ]
        subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})

    def samples(self, name: str) -> list[dict[str, Any]]:
        """What the harness logged last of a task, one entry per row and filter."""
        place = self.options.work / f"harness-{self.options.items}-{self.options.scored}"
        newest = max(place.rglob(f"samples_{name}_*.jsonl"), key=lambda path: path.stat().st_mtime)
        return [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]

    # -- the comparison -----------------------------------------------------------------------------------------------

    def record(self, seconds: dict[str, float]) -> dict[str, Any]:
        options = vars(self.options)
        shown = ("items", "shots", "scored", "max_tokens", "batch_size", "seed")
        version = [self.options.harness, "-c", "from importlib.metadata import version; print(version('lm_eval'))"]
        harness = subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()
        return {
            "model": Path(self.options.model).name,
            "data": Path(self.options.data).name,
            "command": " ".join(
                ["python benchmarks/harness.py MODEL --data DATA --harness PYTHON --work FOLDER"]
                + [f"--{name.replace('_', '-')} {options[name]}" for name in shown]
            ),
            "device": f"{platform.machine()}, {os.cpu_count()} cores, float32",
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "transformers", "math-verify")},
                "lm-eval": harness,
            },
            "load": round(os.getloadavg()[0], 2),
            "seconds": seconds,
            **self.compared_answers(),
            "losses": self.compared_losses(),
        }

    def compared_answers(self) -> dict[str, Any]:
        questions, own_rows = self.questions[ANSWERS], self.results[ANSWERS].rows.to_pylist()
        harness_samples: dict[str, dict[int, dict[str, Any]]] = {"strict": {}, "flexible": {}}
        for sample in self.samples(ANSWERS):
            harness_samples[sample["filter"]][sample["doc_id"]] = sample
        form = form_of(self.answers, None, self.tokenizer)
        shown = pieces(questions, form, self.shots, self.tokenizer)
        prompts = generation_prompts(shown, questions, form, self.shots, self.tokenizer)
        right = {"curate": [row["accuracy"] == 1 for row in own_rows]}
        for name, samples in harness_samples.items():
            right[name] = [samples[k]["exact_match"] == 1 for k in range(len(own_rows))]
        harness_texts = [harness_samples["strict"][k]["resps"][0][0] for k in range(len(own_rows))]
        # Their texts by our rules: what differs then is the grading alone.
        verdicts = graded(
            [Completion(text, "stop") for text in harness_texts], [str(each) for each in questions.answers]
        )
        right["harness texts graded by curate"] = [each.verdict == "right" for each in verdicts]
        same = [row["completions"][0] == text for row, text in zip(own_rows, harness_texts, strict=True)]
        same_prompts = [
            prompts[k] == harness_samples["strict"][k]["arguments"]["gen_args_0"]["arg_0"] for k in range(len(own_rows))
        ]
        n = len(own_rows)
        return {
            "accuracy": {name: sum(each) / n for name, each in right.items()},
            "undecided": self.results[ANSWERS].summary["undecided"],
            "against": {name: _paired(right["curate"], right[name]) for name in right if name != "curate"},
            "prompts equal": sum(same_prompts),
            "completions equal": sum(same),
            "disagreements": [
                {
                    "example_id": row["example_id"],
                    "answer": row["answer"],
                    **{name: right[name][k] for name in right},
                    "curate says": row["completions"][0],
                    "harness says": harness_texts[k],
                }
                for k, row in enumerate(own_rows)
                if len({each[k] for each in right.values()}) > 1
            ],
        }

    def compared_losses(self) -> dict[str, float]:
        own_rows = self.results[LOSSES].rows.to_pylist()
        harness_losses = {sample["doc_id"]: float(sample["resps"][0][0][0]) for sample in self.samples(LOSSES)}
        apart = [abs(row["nll"] + harness_losses[k] / row["nll_tokens"]) for k, row in enumerate(own_rows)]
        tokens = sum(row["nll_tokens"] for row in own_rows)
        return {
            "rows": len(own_rows),
            "curate": self.results[LOSSES].summary["nll"],
            "harness": -math.fsum(harness_losses.values()) / tokens,
            "largest difference of a row": max(apart),
        }


def _paired(own_right: list[bool], harness_right: list[bool]) -> dict[str, Any]:
    """Difference of two accuracies on the same rows, in units of the noise that the rows on which they differ make."""
    n = len(own_right)
    only_ours = sum(a and not b for a, b in zip(own_right, harness_right, strict=True))
    only_theirs = sum(b and not a for a, b in zip(own_right, harness_right, strict=True))
    difference = (only_ours - only_theirs) / n
    error = math.sqrt(max(only_ours + only_theirs - n * difference**2, 0)) / n
    accuracy = sum(harness_right) / n
    return {
        "only curate right": only_ours,
        "only harness right": only_theirs,
        "difference": difference,
        "standard error of the difference": error,
        "standard error of one accuracy": math.sqrt(accuracy * (1 - accuracy) / n),
    }


def _write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
