"""The family text: its questions, and that the same words are known to every model of it."""

from benchmarks.when.design import TEXT_SETTINGS
from benchmarks.when.skills import RARE, SKILLS
from benchmarks.when.text import KNOWN_WORDS, TEST_ROWS, Text, material


def test_material_keeps_known_rows_training_and_questions_apart() -> None:
    setting = next(setting for setting in TEXT_SETTINGS if setting.noise == 0.1)
    given = material(setting, 100)
    assert given.rows.num_rows == setting.rows
    assert sum(given.mixture[skill] for skill in RARE) == setting.share
    assert given.test.num_rows == TEST_ROWS
    assert set(given.test["group"].to_pylist()) == set(SKILLS)
    rare = [skill in RARE for skill in given.known["group"].to_pylist()]
    assert sum(rare) == KNOWN_WORDS * len(RARE)
    assert not any(given.known["fault"].to_pylist())
    assert len(set(given.known["id"].to_pylist())) == given.known.num_rows


def test_a_setting_has_the_same_questions_whatever_its_faults() -> None:
    clean, noisy = (next(s for s in Text().settings() if s.share == 0.1 and s.noise == noise) for noise in (0, 0.2))
    assert material(clean, 100).test.equals(material(noisy, 100).test)
