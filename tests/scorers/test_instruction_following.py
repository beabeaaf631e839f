"""Instruction-following difficulty against losses of rows written out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.run import Run
from curate.tokenization.tokens import Tokens
from scorers import (
    InstructionFollowingDifficulty,
    Length,
    Product,
    RankAverage,
)
from scorers.instruction_following import without_prompt
from tests.fixtures.checkpoints import checkpoint_of, given_run
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.scored import examples_of

# -- instruction-following difficulty -------------------------------------------------------------------------------


def test_completions_alone_row_by_row() -> None:
    bos = 1
    rows = [  # (ids, supervised)
        ([1, 5, 6, 7, 8, 2], [0, 0, 0, 1, 1, 1]),  # with BOS
        ([5, 6, 7, 8, 2], [0, 0, 1, 1, 1]),  # without
        ([5, 6, 7, 8, 9, 10], [0, 1, 1, 0, 1, 1]),  # two turns
        ([1, 5, 6], [0, 0, 0]),  # invalid
        ([5, 9], [0, 1]),  # nothing to compare
        ([1, 9], [0, 1]),
    ]
    lengths = [len(ids) for ids, _ in rows]
    supervised = np.concatenate([np.array(mask, bool) for _, mask in rows])
    tokens = Tokens(
        np.concatenate([np.array(ids, np.int32) for ids, _ in rows]),
        supervised,
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([True, True, True, False, True, True]),
        *np.zeros((2, 6), np.int32),
    )
    same, alone = without_prompt(tokens, bos)

    def cut(each: Tokens, row: int, where: Any = slice(None)) -> list[int]:
        low, high = each.offsets[row : row + 2]
        return each.ids[low:high][each.supervised[low:high] if where is None else where].tolist()

    assert [cut(alone, row) for row in range(6)] == [[1, 7, 8, 2], [7, 8, 2], [6, 7, 9, 10], [1], [9], [1, 9]]
    for each in (same, alone):
        assert [cut(each, row, None) for row in range(6)] == [[7, 8, 2], [8, 2], [7, 9, 10], [], [], [9]]
    assert same.valid.tolist() == alone.valid.tolist() == [True, True, True, False, False, True]
    np.testing.assert_array_equal(tokens.supervised, supervised)


@pytest.mark.parametrize("bos", [None, 1])
def test_ifd_against_losses_of_rows_written_out(bos: int | None) -> None:
    model = tiny_model()
    tokens = random_tokens([(6, 20), (9, 5), (3, 7), (4, 1)])
    if bos is not None:
        tokens.ids[tokens.offsets[:-1]] = bos
    checkpoint = checkpoint_of(model, tokens, tokenizer=SimpleNamespace(bos_token_id=bos))
    found = InstructionFollowingDifficulty().measure(checkpoint, examples_of(4))
    for row in range(4):
        low, high = tokens.offsets[row : row + 2]
        ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))
        said = int(tokens.completion_tokens[row])
        kept = said if bos is not None else said - 1
        assert found[row, 2] == kept
        if kept == 0:
            assert np.isnan(found[row, :2]).all()
            continue
        alone = ids[-said:] if bos is None else torch.cat([ids[:1], ids[-said:]])
        with torch.no_grad():
            for column, given in ((0, ids), (1, alone)):
                logits = model(input_ids=given[None]).logits[0, -kept - 1 : -1]
                expected = torch.nn.functional.cross_entropy(logits, given[-kept:]).item()
                assert found[row, column] == pytest.approx(expected, abs=1e-4)


def test_ifd_is_the_ratio_and_marks_rows_with_nothing_to_compare() -> None:
    scorer = InstructionFollowingDifficulty()
    values = [[[1.0, 2.0, 5.0], [0.5, 2.0, 5.0]], [[3.0, 2.0, 1.0]] * 2, [[np.nan, np.nan, 0.0]] * 2]
    losses = (MeanLoss(), np.ones((3, 2, 1)))
    found = scorer.score(examples_of(3), given_run((scorer, values), losses))
    np.testing.assert_allclose(found.features, [[0.5, 0.25], [1.5, 1.5], [0, 0]])
    np.testing.assert_allclose(found.difficulty, [0.375, 1.5, np.nan])
    assert found.valid.tolist() == [True, True, False]
    known_by_heart = given_run((scorer, [[[1.0, 2.0, 5.0], [0.0, 0.0, 5.0]]]), (MeanLoss(), np.ones((1, 2, 1))))
    with pytest.raises(InputError, match=r"ratio .* not finite, first row 0 \(id r0\) at step 20; lower proxy\.steps"):
        scorer.score(examples_of(1), known_by_heart)
    texts = read(pa.table({"text": ["a", "b"]})).examples
    with pytest.raises(InputError, match="text have no prompt to leave out"):
        scorer.score(texts, Run())
    for inside in (scorer, Product(scorers=(RankAverage(scorers=(scorer,)), Length()))):
        pipeline = Pipeline(proxy=Proxy(model="scratch"), scorer=inside, clusterer=KMeans())
        with pytest.raises(InputError, match="text have no prompt to leave out"):
            pipeline.check(texts)
        pipeline.check(texts, scored=True)
