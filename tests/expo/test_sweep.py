"""The sweep over alpha."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli.main import main
from curate.errors import InputError
from curate.expo.sources import open_models
from curate.expo.sweep import _best, sweep


def test_no_alpha_is_best_where_no_row_was_scored() -> None:
    points = [{"alpha": 0.5, "sets": {}, "accuracy": None, "nll": None}]
    with pytest.raises(InputError, match="no row could be graded or scored"):
        _best(points, None)


def test_a_sweep_evaluates_every_alpha_and_the_tuned_model_and_names_the_best(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from curate.evaluation.config import Evaluation, EvaluationSet
    from curate.evaluation.evaluate import evaluate

    base, tuned, rows = trained
    out = tmp_path / "out"
    given = ["expo", str(tuned), "--base", str(base), "--alpha=-1,0.5,2", "--out", str(out), "--no-generate"]
    given += ["--evaluation", f"one={rows}", "--evaluation", f"two={{data: {rows}, limit: 5}}"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "0 (tuned)" in shown
    assert "measure what it gains on others" in shown
    record = json.loads((out / "sweep.json").read_text())
    points = {point["alpha"]: point for point in record["points"]}
    assert list(points) == [-1, 0, 0.5, 2]
    settings = Evaluation(generate=False)
    for alpha, model in ((0, tuned), (-1, base), (2, out / "alpha-2")):
        (result,) = evaluate(model, {"one": rows}, settings).values()
        assert points[alpha]["sets"]["one"]["nll"] == pytest.approx(result.summary["nll"], rel=1e-6)
    assert record["by"] == "nll"
    assert record["best"] == min(points, key=lambda alpha: points[alpha]["nll"])
    parts = points[2]["sets"]
    assert points[2]["rows"] == parts["one"]["rows"] + parts["two"]["rows"] == 17
    assert (
        min(part["nll"] for part in parts.values()) <= points[2]["nll"] <= max(part["nll"] for part in parts.values())
    )
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "sweep.json"}
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files
    models = open_models(tuned, base)
    with pytest.raises(InputError, match="pass --fresh"):
        sweep(open_models(base, tuned), [0.5], out, sets=[EvaluationSet(data=rows, name="one")], settings=settings)
    turned = sweep(
        open_models(base, tuned), [0.5], out, sets=[EvaluationSet(data=rows, name="one")], settings=settings, fresh=True
    )
    assert turned["points"][0]["nll"] == pytest.approx(points[-1]["sets"]["one"]["nll"], rel=1e-6)
    with pytest.raises(InputError, match="choose by nll"):
        sweep(models, [0.5], out, settings=settings, by="accuracy")
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes\.txt\)"):
        sweep(models, [0.5], out)
