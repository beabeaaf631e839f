"""Rows of skills: what is asked is answered by the skill's substitution, and no row stands in two parts."""

from itertools import chain

import pytest

from curate.word_problems.skills import SYMBOLS, Skills, counts_of


def test_a_row_is_answered_by_the_substitution_of_its_skill() -> None:
    skills = Skills(3, 0.1)
    rows = skills.rows(dict.fromkeys(skills.names, 60), "train").to_pylist()
    for skill in skills.names:
        pairs = [
            (row["prompt"].partition(" : ")[2].split(), row["completion"].split())
            for row in rows
            if row["source"] == skill
        ]
        mapped = dict(chain.from_iterable(zip(*pair, strict=True) for pair in pairs))
        assert sorted(mapped) == sorted(mapped.values()) == list(SYMBOLS)  # one to one
        assert all([mapped[each] for each in asked] == answer for asked, answer in pairs)


def test_seeds_draw_other_skills_and_parts_other_rows() -> None:
    skills = Skills(0, 0.1)
    assert len(set(skills.names)) == 8
    assert skills.names != Skills(1, 0.1).names
    counts = dict.fromkeys(skills.names, 100)
    first = skills.rows(counts, "train")
    assert first.equals(Skills(0, 0.1).rows(counts, "train"))
    second = skills.rows(counts, "test", [first])
    assert not set(first["prompt"].to_pylist()) & set(second["prompt"].to_pylist())
    assert len(set(second["prompt"].to_pylist())) == 800


@pytest.mark.parametrize(("share", "rows"), [(0.1, 4000), (0.05, 4000), (0.4, 37)])
def test_the_rare_skills_have_their_share(share: float, rows: int) -> None:
    skills = Skills(0, share)
    counts = counts_of(skills.mixture, rows)
    assert sum(counts.values()) == rows
    assert abs(sum(counts[skill] for skill in skills.rare) - share * rows) <= 1
