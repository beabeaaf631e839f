"""The rows to look at are those of the extremes and of the sides that are asked for, with their texts."""

from pathlib import Path

import numpy as np
import pytest

from augmenters import Duplicate
from curate import InputError
from curate.console.presentation import MOST_LINES
from curate.curated import Curated
from curate.mixture.input_rows import first_words
from tests.fixtures.pipelines import KnownTrajectory, _contract_table, _with_known


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    pipeline = _with_known(scorer=KnownTrajectory(), augmenters=[Duplicate(times=2)])
    return pipeline.run(_contract_table(), cache=tmp_path_factory.mktemp("cache"), progress=False)


def test_the_hardest_and_the_easiest_stand_in_order(curated: Curated) -> None:
    known = {row["id"]: row["known"] for row in _contract_table().to_pylist() if row["known"] is not None}
    hardest, easiest = curated.hardest(5), curated.easiest(5)
    assert hardest["difficulty"].tolist() == sorted(known.values(), reverse=True)[:5]
    assert easiest["difficulty"].tolist() == sorted(known.values())[:5]
    assert hardest["hard"].all()
    assert not easiest["hard"].any()
    prompts = {row["id"]: row["prompt"] for row in _contract_table().to_pylist()}
    assert [prompts[each] for each in hardest["example_id"]] == hardest["prompt"].tolist()
    assert hardest["count"].tolist() == [3] * 5
    assert len(curated.hardest(10**6)) == len(known)


def test_a_sample_is_drawn_from_the_side_that_is_named(curated: Curated) -> None:
    hard = curated.sample(4, hard=True)
    assert hard["hard"].all()
    assert hard["example_id"].tolist() == curated.sample(4, hard=True)["example_id"].tolist()
    assert not curated.sample(4, hard=False)["hard"].any()
    assert len(set(curated.sample(10**6)["example_id"])) == len(_contract_table())
    with pytest.raises(InputError, match="at least 1"):
        curated.sample(0)


def test_every_result_is_short_in_a_terminal_and_a_table_in_a_notebook(curated: Curated) -> None:
    for result in (curated.pipeline, curated, curated.scores, curated.split, curated.plan, curated.forecast()):
        assert 2 <= len(repr(result).splitlines()) <= MOST_LINES
        assert len(repr(result)) < 4_000
        assert result._repr_html_().startswith("<div>")
    assert "hard" in repr(curated)
    assert len(curated) == curated.to_arrow().num_rows == len(curated.to_pandas())
    assert curated.to_arrow().equals(curated.dataset)
    assert curated[0] == curated.dataset.slice(0, 1).to_pylist()[0]
    for table in (curated.scores, curated.split, curated.plan):
        assert len(table) == table.to_arrow().num_rows == len(_contract_table())
    assert np.array_equal(curated.split["hard"].to_numpy(), curated.split.hard)


def test_plots_are_figures_of_all_rows(curated: Curated) -> None:
    figure = curated.plot()
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(sum(trace.y) for trace in bars) == int(curated.split.valid.sum()) - 1  # one lies beyond the range
    points = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    texts = [text for trace in points for text in trace.text]
    assert any(text.startswith("p1<br>r1") for text in texts)  # its first words, and its id
    assert {trace.xaxis for trace in figure.data} == {"x", "x2", "x3"}
    assert not [trace for trace in curated.scores.plot().data if trace.name in ("easy", "hard")]
    seen = curated.forecast().plot().data[0]
    assert list(seen.y) == pytest.approx([curated.forecast().hard.steps, curated.forecast().easy.steps], rel=1e-3)


def test_a_result_opens_its_report_once_it_is_written(
    curated: Curated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with pytest.raises(InputError, match=r"curated\.write"):
        curated.open_report()
    curated.write(tmp_path / "out")
    assert curated.path == tmp_path / "out"
    assert curated.open_report().is_file()
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    assert str(tmp_path / "out") in curated.summary()._repr_html_()


def test_first_words_are_on_one_line_and_bounded(curated: Curated) -> None:
    examples = curated.loaded.examples
    assert first_words(examples, np.array([0, 2])) == ["p0", "p2"]
    assert first_words(examples, np.array([], np.int64)) == []


def test_conversations_are_text_that_tells_rows_apart(tmp_path: Path) -> None:
    shared = {"role": "system", "content": "You are terse."}
    chats = [
        [shared, {"role": "user", "content": f"What is {k} + 1?"}, {"role": "assistant", "content": f"{k + 1}"}]
        for k in range(20)
    ]
    pipeline = _with_known(augmenters=[Duplicate()])
    rows = [{"messages": chat} for chat in chats]
    curated = pipeline.run(rows, scores=np.arange(20.0), cache=tmp_path, progress=False)
    assert curated.hardest(1)["messages"].tolist() == ["user: What is 19 + 1?\nassistant: 20"]
