"""Preference pairs and labeled completions of every usual shape: what is learned, and that no row is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Duplicate, Replay, Synthesize
from curate.clusterers import KMeans
from curate.data.readers import Loaded, read
from curate.errors import InputError
from curate.generators import Transformers
from curate.pipeline import Pipeline
from scorers import Length
from tests.fixtures.tables import fails

N = 6


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


def _good(k: int) -> str:
    """Of two lengths, so that there are easy rows and hard ones."""
    return f"It is {k}." + (" It can be nothing else, as far as is known." if k > 3 else "")


def _row(k: int) -> dict[str, dict[str, Any]]:
    """One pair, with the question "What is k?", in every shape."""
    question, good, bad = f"What is {k}?", _good(k), f"It is {k + 1}, I think."
    asked = [_said("user", "Hello"), _said("assistant", "Hello."), _said("user", question)][0 if k % 2 else 2 :]
    return {
        "texts": {"prompt": question, "chosen": good, "rejected": bad},
        "question": {"question": question, "chosen": good, "rejected": bad, "source": "ab"[k % 2]},
        "instruction": {"instruction": question, "input": f"in {k}", "chosen": good, "rejected": bad},
        "other names": {"question": question, "response_j": good, "response_k": bad},
        "no prompt": {
            "chosen": f"\n\nHuman: {question}\n\nAssistant: {good}",
            "rejected": f"\n\nHuman: {question}\n\nAssistant: {bad}",
        },
        "messages": {"prompt": asked, "chosen": [_said("assistant", good)], "rejected": [_said("assistant", bad)]},
        "implicit": {
            "chosen": [*asked, _said("assistant", good)],
            "rejected": [*asked, _said("assistant", bad)],
        },
        "implicit, and a prompt in text": {
            "prompt": question,
            "chosen": [*asked, _said("assistant", good)],
            "rejected": [*asked, _said("assistant", bad)],
            "messages": [*asked, _said("assistant", good)],
            "score_chosen": 8.0,
        },
        "rejected messages": {
            "messages": [*asked, _said("assistant", good)],
            "rejected_messages": [*asked, _said("assistant", bad)],
        },
        "sharegpt": {
            "conversations": [_turn({"user": "human"}.get(m["role"], "gpt"), m["content"]) for m in asked],
            "chosen": _turn("gpt", good),
            "rejected": _turn("gpt", bad),
        },
        "a text before messages": {
            "prompt": question,
            "chosen": [_said("assistant", good)],
            "rejected": [_said("assistant", bad)],
        },
        "messages before texts": {"messages": asked, "chosen": good, "rejected": bad},
        "a prompt of messages before texts": {"prompt": asked, "chosen": good, "rejected": bad},
        "a prompt of messages with other keys before texts": {
            "prompt": [{**each, **({"id": j} if j + k % 2 else {})} for j, each in enumerate(asked)],
            "chosen": good,
            "rejected": bad,
            "query": "?",
        },
        "keys that differ": {
            "messages": asked,
            "chosen": {**_said("assistant", good), **({"score": k} if k % 2 else {})},
            "rejected": _said("assistant", bad),
        },
    }


SHAPES = list(_row(0))


def _rows(shape: str) -> list[dict[str, Any]]:
    return [_row(k)[shape] for k in range(N)]


def _write(folder: Path, rows: list[dict[str, Any]], name: str = "pairs.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _opened(cell: Any) -> Any:
    """A cell with the objects that are JSON text in it."""
    if isinstance(cell, list):
        return [_opened(item) for item in cell]
    return json.loads(cell) if isinstance(cell, str) and cell[:1] == "{" else cell


def _answers(loaded: Loaded) -> tuple[list[str], list[str]]:
    """The last thing that is said in each row, and in each row with the rejected answer."""
    found = []
    for examples in (loaded.examples, loaded.examples.rejected()):
        role = {"messages": "messages", "instruction": "output"}.get(examples.shape, "completion")
        cells = examples.texts(role, 0, len(examples))
        found.append([cell[-1]["content"] if isinstance(cell, list) else cell.strip() for cell in cells])
    return found[0], found[1]


def _asked(loaded: Loaded, row: int) -> str:
    examples = loaded.examples
    role = "instruction" if examples.shape == "instruction" else "prompt"
    cell = examples.texts(role, row, row + 1)[0]
    return cell[-1]["content"] if isinstance(cell, list) else cell


@pytest.mark.parametrize("shape", SHAPES)
def test_chosen_is_learned_behind_its_prompt_and_rejected_is_beside_it(shape: str, tmp_path: Path) -> None:
    path = _write(tmp_path, _rows(shape))
    loaded = read(path)
    good, bad = _answers(loaded)
    assert good == [_good(k) for k in range(N)]
    assert bad == [f"It is {k + 1}, I think." for k in range(N)]
    for row in range(N):
        assert f"What is {row}?" in _asked(loaded, row)
        assert "It is" not in _asked(loaded, row)
    assert loaded.examples.paired
    assert loaded.notes[0].startswith("shape preference (")
    assert "is learned and scored" in loaded.notes[1]
    again = read(path, **loaded.examples.reading)
    assert again.examples.fingerprint() == loaded.examples.fingerprint()
    assert again.examples.ids == loaded.examples.ids
    taken = loaded.examples.take([3, 1]).rejected()
    assert (
        taken.texts(taken.content_roles[-1], 0, 2)[0]
        == loaded.examples.rejected().texts(taken.content_roles[-1], 3, 4)[0]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_has_whole_rows_as_they_were_written(shape: str, tmp_path: Path) -> None:
    path = _write(tmp_path, _rows(shape))
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate()], order="keep")
    curated = pipeline.run(path, out=tmp_path / "out")
    written = pq.read_table(tmp_path / "out" / "data")
    names = read(path).examples.table.column_names
    assert written.column_names[: len(names)] == names
    assert not any("(" in name for name in written.column_names)
    assert len(written) > N
    expected = {json.dumps(row, sort_keys=True) for row in _rows(shape)}
    for row in written.select(names).to_pylist():
        assert json.dumps({name: _opened(cell) for name, cell in row.items()}, sort_keys=True) in expected
    assert len(curated) == len(written)


def test_the_same_pairs_of_other_kinds_of_input_are_read_the_same(tmp_path: Path) -> None:
    import datasets
    import pandas as pd

    for shape in ("texts", "implicit", "sharegpt", "no prompt"):
        table = pa.Table.from_pylist(_rows(shape))
        pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=2)
        dataset = datasets.Dataset.from_list(_rows(shape))
        inputs: list[Any] = [_write(tmp_path, _rows(shape)), tmp_path / "pairs.parquet", table, dataset]
        inputs += [pa.concat_tables([table.slice(0, 2), table.slice(2)])]
        inputs += [pd.DataFrame(_rows(shape))] if shape == "texts" else []
        found = {tuple(read(each).examples.ids.to_pylist()) for each in inputs}
        assert len(found) == 1


def test_a_pair_that_is_no_pair_is_an_unusable_row(tmp_path: Path) -> None:
    for shape in ("texts", "messages", "sharegpt"):
        rows = _rows(shape)
        rows[2] = {**rows[2], "rejected": None}
        path = _write(tmp_path, rows)
        fails("row 2 .*column 'chosen.*' has no rejected answer beside it in column 'rejected'", path)
        assert read(path, on_bad_row="drop").rows.tolist() == [0, 1, 3, 4, 5]
        rows[2] = {**rows[2], "rejected": rows[1]["rejected"], "chosen": None}
        fails("row 2 .*column 'chosen.*' is null", _write(tmp_path, rows))


def test_columns_and_shapes_that_are_named() -> None:
    rows = [{"q": "Why?", "good": "So.", "bad": "No.", "chosen": k % 2 == 0} for k in range(4)]
    table = pa.Table.from_pylist(rows)
    loaded = read(table, columns="prompt=q,chosen=good,rejected=bad")
    assert _answers(loaded) == (["So."] * 4, ["No."] * 4)
    fails("no columns of chosen and rejected answers; name them", table, shape="preference")
    fails("must both be texts or messages, but columns hold 'chosen' bool", table, columns="chosen=chosen,rejected=bad")
    pairs = pa.Table.from_pylist(_rows("texts"))
    plain = read(pairs, columns="prompt=prompt,completion=chosen")
    assert not plain.examples.paired
    assert read(pairs, shape="preference").examples.paired
    with pytest.raises(InputError, match="have no rejected answers"):
        plain.examples.rejected()


def test_a_role_that_is_switched_off_leaves_the_column_alone() -> None:
    rows = [{**_row(k)["texts"], "completion": "c", "label": k > 2} for k in range(N)]
    table = pa.Table.from_pylist(rows)
    assert read(table, columns="label=").examples.paired
    for off in ("rejected=", "chosen=", "chosen=,rejected=,label="):
        loaded = read(table, columns=off)
        assert (loaded.examples.paired, loaded.examples.columns["completion"]) == (False, "completion")
        assert ("label" in loaded.examples.columns) is ("label" not in off)
        assert loaded.examples.table.equals(table)
    labeled = table.select(["prompt", "completion", "label"])
    plain = read(labeled, columns="label=")
    assert "label" not in plain.examples.columns
    assert not any("kto" in note for note in plain.notes)
    assert read(labeled, columns={"label": ""}).examples.columns == plain.examples.columns
    named = read(table.select(["prompt", "chosen", "rejected"]), columns="prompt=prompt,completion=chosen,rejected=")
    assert (named.examples.paired, named.examples.columns["completion"]) == (False, "chosen")


def test_shared_words_are_part_of_the_answer_and_not_of_the_prompt() -> None:
    rows = [
        {"chosen": "Q: 1 + 1 A: two apples", "rejected": "Q: 1 + 1 A: twelve apples"},
        {"chosen": "\n\nHuman: a\n\nAssistant: I think b", "rejected": "\n\nHuman: a\n\nAssistant: I think c"},
        {"chosen": "x", "rejected": "y"},
        {"chosen": "ab cd", "rejected": "ab cd ef"},
        {"chosen": "same text", "rejected": "same text"},
    ]
    examples = read(pa.Table.from_pylist(rows)).examples
    asked, good = examples.texts("prompt", 0, 5), examples.texts("completion", 0, 5)
    assert asked == ["Q: 1 + 1 A:", "\n\nHuman: a\n\nAssistant:", "", "ab", "same"]
    assert [a + b for a, b in zip(asked, good, strict=True)] == [row["chosen"] for row in rows]
    assert examples.rejected().texts("completion", 0, 5) == [" twelve apples", " I think c", "y", " cd ef", " text"]


def test_labeled_completions_are_all_scored_and_said_so(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {k}?", "completion": f"{k}.", "label": k % 3 == 0} for k in range(N)]
    loaded = read(_write(tmp_path, rows))
    assert len(loaded.examples) == N
    assert loaded.examples.columns["label"] == "label"
    assert "both labels are scored and learned, 2 with label=true and 4 without; --where label=true" in loaded.notes[1]
    assert len(read(tmp_path / "pairs.jsonl", where="label=true").examples) == 2
    assert read(tmp_path / "pairs.jsonl", **loaded.examples.reading).examples.columns["label"] == "label"
    named = [{**row, "good": row["label"], "label": "x"} for row in rows]
    assert read(_write(tmp_path, named), columns="label=good", shape="kto").examples.columns["label"] == "good"
    fails(
        "shape kto takes a column of true and false .* column 'label' holds string",
        tmp_path / "pairs.jsonl",
        columns="label=label",
    )
    fails("but there is no column; name one", pa.table({"prompt": ["a"], "completion": ["b"]}), shape="kto")
    turns = [{"prompt": [_said("user", "a")], "completion": [_said("assistant", "b")], "label": True}] * 2
    assert read(_write(tmp_path, turns)).examples.shape == "messages"


def test_rows_of_another_kind_are_not_mixed_in(tmp_path: Path) -> None:
    pairs, plain = pa.Table.from_pylist(_rows("texts")), pa.table({"prompt": ["a"] * 9, "completion": ["b"] * 9})
    more = pa.Table.from_pylist([_row(k)["texts"] for k in range(10, 20)])
    run = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Replay(data=more, share=0.25)]).run(pairs)
    replayed = run.dataset.filter([name == "replay" for name in run.dataset["origin"].to_pylist()])
    assert replayed.num_rows == 2
    assert not replayed["rejected"].null_count
    for data, other in ((pairs, plain), (plain, pairs)):
        with pytest.raises(InputError, match=r"holds preference pairs and .* does not"):
            Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Replay(data=other, share=0.25)]).run(data)
    synthesis = Synthesize(generator=Transformers(model="model"))
    with pytest.raises(InputError, match="which are not preference pairs"):
        Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[synthesis]).run(pairs)


def test_labels_that_are_numbers_are_told() -> None:
    rows = [{"prompt": f"q {k}", "completion": "a", "label": k % 2} for k in range(6)]
    loaded = read(rows)
    assert "label" not in loaded.examples.columns
    assert any("--where label=1 keeps those" in line for line in loaded.notes)
    assert len(read(rows, where="label=1").examples) == 3
    assert not any("--where" in line for line in read([{**row, "label": 7} for row in rows]).notes)


def test_what_was_narrowed_to_one_label_is_not_told_to_narrow() -> None:
    rows = pa.table({"prompt": ["a", "b"], "completion": ["c", "d"], "label": [True, False]})
    narrowed = read(rows, where="label=true")
    assert narrowed.notes[-1] == "kind kto: all 1 completions have label=true"
    assert "--where label=true" in read(rows).notes[-1]


def test_a_prompt_that_cannot_be_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    rows = [{"prompt": {"said": f"q{k}"}, "chosen": "a", "rejected": "b"} for k in range(2)]
    fails("'prompt' holds struct<said: string>, not a prompt of text or messages", _write(tmp_path, rows))


def test_labels_as_text_and_answers_that_are_no_pairs_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": f"c{k}", "label": label} for k, label in enumerate(("true", "False"))]
    (line,) = (line for line in read(_write(tmp_path, rows)).notes if "'label'" in line)
    assert "--where label=true" in line
    assert len(read(_write(tmp_path, rows), where="label=true").examples) == 1
    lists = [{"prompt": "p", "chosen": ["a"], "rejected": ["b"]}]
    fails("must both be texts or messages, but columns hold 'chosen' list", _write(tmp_path, lists))
    apart = [
        {name: [_said("system", f"{name}, {k}"), _said("user", "q"), _said("assistant", name)] for name in pair}
        for k, pair in enumerate([("chosen", "rejected")] * 2)
    ]
    fails("is empty: the two answers have no first message in common", _write(tmp_path, apart))


def test_a_prompt_that_is_not_known_is_not_left_out_in_silence() -> None:
    rows = [{"user_prompt": f"q {k}", "model": "m", "chosen": f"{k} good", "rejected": f"bad {k}"} for k in range(3)]
    with pytest.raises(InputError, match=r"no beginning in common; name it, e\.g\. --columns prompt=user_prompt"):
        read(rows)
    assert read(rows, columns="prompt=user_prompt").examples.texts("prompt", 0, 1) == ["q 0"]
    assert read([{"source": "s", "chosen": "a", "rejected": "b"}]).examples.paired


@pytest.mark.parametrize(("chosen", "rejected"), [("accepted", "rejected"), ("better", "worse")])
def test_further_names_of_pairs(chosen: str, rejected: str) -> None:
    examples = read([{"prompt": "q", chosen: "a", rejected: "b"}]).examples
    assert examples.texts("completion", 0, 1) == ["a"]
    assert examples.rejected().texts("completion", 0, 1) == ["b"]
