"""The formula, what it leaves bit for bit, and the folder of the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from curate.errors import InputError
from curate.expo import weights
from curate.expo.extrapolation import extrapolate
from tests.fixtures.expo import bits, load, pair, save
from tests.fixtures.models import tiny_model

# -- the formula ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.3, 8.0])
def test_every_floating_tensor_follows_the_formula(tmp_path: Path, alpha: float) -> None:
    base, tuned, first, second = pair(tmp_path)
    record = extrapolate(tuned, alpha, tmp_path / "out", base=base)
    found = load(tmp_path / "out")
    assert set(found) == set(second)
    for name, value in found.items():
        exact = second[name].double() + alpha * (second[name].double() - first[name].double())
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    assert record["tensors"] == {"extrapolated": 5, "copied": 0}
    change = torch.cat([(second[name] - first[name]).reshape(-1) for name in first])
    assert record["norm_change"] == pytest.approx(float(change.norm()), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_alpha_zero_is_the_tuned_model_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    base, _, _, tuned = pair(tmp_path, dtype)
    tuned["a.weight"][0, 0] = -0.0
    extrapolate(save(tmp_path / "signed", tuned), 0, tmp_path / "out", base=base)
    found = load(tmp_path / "out")
    assert {name: bits(value) for name, value in found.items()} == {name: bits(v) for name, v in tuned.items()}
    assert all(found[name].dtype == dtype for name in tuned)


def test_alpha_minus_one_is_the_base_bit_for_bit(tmp_path: Path) -> None:
    base, tuned, first, _ = pair(tmp_path, change=1e3)
    extrapolate(tuned, -1, tmp_path / "out", base=base)
    assert {name: bits(value) for name, value in load(tmp_path / "out").items()} == {
        name: bits(value) for name, value in first.items()
    }


def test_what_training_left_alone_stays_bit_for_bit(tmp_path: Path) -> None:
    mask = torch.tensor([0.0, -0.0, float("-inf"), 3e38, 1e-45])
    base = save(tmp_path / "base", {"mask": mask, "w": torch.zeros(2)})
    tuned = save(tmp_path / "tuned", {"mask": mask.clone(), "w": torch.ones(2)})
    extrapolate(tuned, 0.7, tmp_path / "out", base=base)
    assert bits(load(tmp_path / "out")["mask"]) == bits(mask)


def test_alphas_add_up(tmp_path: Path) -> None:
    base, tuned, first, second = pair(tmp_path)
    for name, alpha in (("one", 0.3), ("both", 0.8)):
        extrapolate(tuned, alpha, tmp_path / name, base=base)
    again = 1.8 / 1.3 - 1  # (1 + 0.3) (1 + again) = 1 + 0.8
    extrapolate(tmp_path / "one", again, tmp_path / "twice", base=base)
    one, both, twice = (load(tmp_path / name) for name in ("one", "both", "twice"))
    for name in first:
        torch.testing.assert_close(one[name] + 0.5 * (second[name] - first[name]), both[name], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(twice[name], both[name], rtol=1e-6, atol=1e-6)


def test_small_changes_are_not_lost_in_bfloat16(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(400, 50, generator=generator)
    second = first * (1 + 1e-3 * torch.randn(400, 50, generator=generator))
    exact = second.double() + 0.5 * (second.double() - first.double())
    base, tuned = save(tmp_path / "base", {"w": first}), save(tmp_path / "tuned", {"w": second})
    extrapolate(tuned, 0.5, tmp_path / "wide", base=base)
    extrapolate(tuned, 0.5, tmp_path / "out", base=base, dtype="bfloat16")
    torch.testing.assert_close(load(tmp_path / "wide")["w"].double(), exact, rtol=3e-7, atol=0)
    found = load(tmp_path / "out")["w"]
    assert found.dtype == torch.bfloat16
    assert (found != exact.bfloat16()).float().mean() < 1e-3
    early = second.bfloat16() + 0.5 * (second.bfloat16() - first.bfloat16())
    assert (early != exact.bfloat16()).float().mean() > 0.1
    assert json.loads((tmp_path / "out/config.json").read_text()) == {"dtype": "bfloat16"}


def test_integer_buffers_are_those_of_the_tuned_model(tmp_path: Path) -> None:
    own = {"steps": torch.tensor(7), "mask": torch.tensor([True, False, True]), "w": torch.ones(3)}
    base = save(tmp_path / "base", {"steps": torch.tensor(2), "mask": torch.ones(3).bool(), "w": torch.zeros(3)})
    record = extrapolate(save(tmp_path / "tuned", own), 1, tmp_path / "out", base=base)
    found = load(tmp_path / "out")
    assert found["steps"] == 7
    assert found["mask"].tolist() == [True, False, True]
    assert found["w"].tolist() == [2, 2, 2]
    assert record["tensors"] == {"extrapolated": 1, "copied": 2}


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_result_is_a_model_folder_in_the_layout_of_the_tuned_one(tmp_path: Path) -> None:
    first, second = (tiny_model("llama", seed) for seed in (0, 1))
    base = save(tmp_path / "base", dict(first.state_dict()), files=3)
    second.save_pretrained(tmp_path / "tuned", max_shard_size="20KB")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "README.md", "training_args.bin"):
        (tmp_path / "tuned" / name).write_text(name)
    extrapolate(tmp_path / "tuned", 0.5, tmp_path / "out", base=base)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == ({path.name for path in (tmp_path / "tuned").iterdir()} | {"expo.json"}) - {
        *("README.md", "training_args.bin")
    }
    assert sum(name.endswith(".safetensors") for name in names) > 1
    index, own = (json.loads((tmp_path / each / weights.INDEX).read_text()) for each in ("out", "tuned"))
    assert index["weight_map"] == own["weight_map"]
    assert index["metadata"]["total_size"] == own["metadata"]["total_size"]
    model = type(first).from_pretrained(tmp_path / "out")
    for (name, value), one, two in zip(model.named_parameters(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(value, 1.5 * two - 0.5 * one, msg=name)


def test_a_finished_result_is_not_done_again_and_no_other_is_overwritten(tmp_path: Path) -> None:
    base, tuned, _, _ = pair(tmp_path)
    out = tmp_path / "out"
    first = extrapolate(tuned, 0.3, out, base=base)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert extrapolate(tuned, 0.3, out, base=base) == first
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="pass --fresh"):
        extrapolate(tuned, 0.4, out, base=base)
    assert extrapolate(tuned, 0.4, out, base=base, fresh=True)["alpha"] == 0.4
    for place in (tuned, base):
        with pytest.raises(InputError, match="holds something else"):
            extrapolate(tuned, 0.4, place, base=base, fresh=True)
    with pytest.raises(InputError, match="holds something else"):
        extrapolate(out, 0.4, out, base=base, fresh=True)


def test_numbers_that_overflow_or_are_broken_are_refused_with_the_tensor(tmp_path: Path) -> None:
    base = save(tmp_path / "base", {"w": torch.zeros(3).half()})
    tuned = save(tmp_path / "tuned", {"w": torch.tensor([1.0, 2.0, 6e4]).half()})
    with pytest.raises(InputError, match=r"'w' of .*tuned at alpha = 0\.3 is not finite in float16; lower alpha"):
        extrapolate(tuned, 0.3, tmp_path / "out", base=base)
    assert not (tmp_path / "out").exists()
    extrapolate(tuned, 0.3, tmp_path / "wide", base=base, dtype="float32")
    broken = save(tmp_path / "broken", {"w": torch.tensor([1.0, float("nan"), 0.0]).half()})
    with pytest.raises(InputError, match="not finite in the models themselves"):
        extrapolate(broken, 0.3, tmp_path / "out", base=base)
