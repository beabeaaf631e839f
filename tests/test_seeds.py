"""Seeds derived from a path."""

from curate.seeds import derive_seed


def test_seeds_differ_by_every_part_of_the_path() -> None:
    seeds = {
        derive_seed(0, "a"),
        derive_seed(1, "a"),
        derive_seed(0, "b"),
        derive_seed(0, "a", 0),
        derive_seed(0, "a", "0"),
        derive_seed(0, "a", 0, 0),
        derive_seed(0, "a", 1),
    }
    assert len(seeds) == 7
    assert all(0 <= seed < 2**32 for seed in seeds)
