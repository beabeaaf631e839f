"""SAM against independent arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from curate.component import fingerprint
from curate.optimizers import SAM, AdamW, FunctionalSAM
from curate.optimizers.sam import ascent
from tests.fixtures.arithmetic import RATE, built, problem


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def oracle_sam(rho: float, adaptive: bool, steps: int) -> list[torch.Tensor]:
    """SAM with the closed-form gradient of logistic regression in float64 and plain gradient descent."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=draw).double(), torch.rand(40, generator=draw).round().double()
    w = torch.cat([torch.randn(1, 5, generator=draw)[0], torch.randn(1, generator=draw)]).double()
    design = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], dim=1)

    def gradient(at: torch.Tensor) -> torch.Tensor:
        return design.T @ (torch.sigmoid(design @ at) - y) / 40

    found = []
    for _ in range(steps):
        g = gradient(w)
        eps = rho * w**2 * g / (w.abs() * g).norm() if adaptive else rho * g / g.norm()
        w = w - RATE * gradient(w + eps)
        found.append(w.clone())
    return found


class Descent:
    """Plain gradient descent, as a base optimizer without state."""

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> Any:
        return torch.optim.SGD(model.parameters(), lr=learning_rate)


@pytest.mark.parametrize(("rho", "adaptive"), [(0.05, False), (0.5, False), (0.5, True)])
def test_sam_follows_an_oracle_with_closed_form_gradients(rho: float, adaptive: bool) -> None:
    model, closure = problem()
    optimizer = built(SAM(base=Descent(), rho=rho, adaptive=adaptive), model)
    plain = oracle_sam(0.0, False, 30)[-1]
    for expected in oracle_sam(rho, adaptive, 30):
        optimizer.step(closure)
        found = flat(model).double()
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert float((found - plain).norm()) > 1e-4


def test_sam_without_radius_is_its_base_bit_for_bit() -> None:
    (first, closure), (second, other) = problem(), problem()
    sam, base = built(SAM(rho=0.0), first), built(AdamW(), second)
    for _ in range(5):
        assert sam.step(closure) == base.step(other)
    assert torch.equal(flat(first), flat(second))


def test_sam_tends_to_its_base_as_the_radius_shrinks() -> None:
    def after(rho: float) -> torch.Tensor:
        model, closure = problem()
        optimizer = built(SAM(base=Descent(), rho=rho), model)
        for _ in range(10):
            optimizer.step(closure)
        return flat(model)

    distances = [float((after(rho) - after(0.0)).norm()) for rho in (0.4, 0.04, 0.004)]
    assert distances[0] > 5 * distances[1] > 25 * distances[2]


@pytest.mark.parametrize("fails", [False, True])
def test_sam_puts_weights_back_bit_for_bit_before_the_base_moves_them(fails: bool) -> None:
    model, closure = problem()
    with torch.no_grad():
        model.weight.mul_(1e4)  # so that adding and subtracting eps would lose bits
    before = flat(model)
    calls: list[torch.Tensor] = []

    def watched() -> float:
        calls.append(flat(model))
        if fails and len(calls) == 2:
            raise RuntimeError("second gradient")
        return closure()

    class Still:
        def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> Any:
            return torch.optim.SGD(model.parameters(), lr=0.0)

    optimizer = built(SAM(base=Still(), rho=0.3), model)
    if fails:
        with pytest.raises(RuntimeError, match="second gradient"):
            optimizer.step(watched)
    else:
        optimizer.step(watched)
    assert len(calls) == 2
    assert not torch.equal(calls[1], before)
    assert torch.equal(flat(model), before)


def test_sam_reports_the_loss_at_the_weights_and_not_above_them() -> None:
    model, closure = problem()
    here = closure()
    assert built(SAM(rho=0.5), model).step(closure) == here


def test_ascent_has_length_rho_and_goes_up() -> None:
    model, closure = problem()
    here = closure()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    eps = ascent(model.parameters(), gradients, 0.05)
    assert float(torch.cat([e.flatten() for e in eps]).norm()) == pytest.approx(0.05, rel=1e-6)
    cosine = sum(float((e * g).sum()) for e, g in zip(eps, gradients, strict=True))
    assert cosine == pytest.approx(0.05 * math.sqrt(sum(float(g.square().sum()) for g in gradients)), rel=1e-6)
    with torch.no_grad():
        for p, e in zip(model.parameters(), eps, strict=True):
            p.add_(e)
    assert closure() > here


def test_adaptive_ascent_does_not_depend_on_the_scale_of_weights() -> None:
    # ASAM's defining property: rescaling w -> c w, which turns g into g / c, rescales eps alike.
    draw = torch.Generator().manual_seed(1)
    w, g = torch.randn(7, generator=draw), torch.randn(7, generator=draw)
    scale = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0, 8.0, 0.25])
    (eps,) = ascent([w], [g], 0.7, adaptive=True)
    (rescaled,) = ascent([w * scale], [g / scale], 0.7, adaptive=True)
    torch.testing.assert_close(rescaled, eps * scale)
    torch.testing.assert_close(eps, 0.7 * w**2 * g / (w.abs() * g).norm())


def test_three_equal_blocks_each_move_by_rho_over_root_three() -> None:
    # A single attention head v k q under the ansatz v = k = q (arXiv 2602.00576), so that
    # tau dv/dt = lambda^2 u^2 - lambda^3 c u^5 with u = v - rho / sqrt(3).
    strength, c, rho, v = 0.3, 1.1, 0.05, 0.2
    blocks = [torch.full((), v, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def gradients() -> list[torch.Tensor]:
        product = blocks[0] * blocks[1] * blocks[2]
        loss = 0.5 * strength**3 * c * product**2 - strength**2 * product
        return list(torch.autograd.grad(loss, blocks))

    eps = ascent(blocks, gradients(), rho)
    assert all(float(e) == pytest.approx(-rho / math.sqrt(3), rel=1e-9) for e in eps)
    with torch.no_grad():
        for block, e in zip(blocks, eps, strict=True):
            block.add_(e)
    u = v - rho / math.sqrt(3)
    assert -float(gradients()[0]) == pytest.approx(strength**2 * u**2 - strength**3 * c * u**5, rel=1e-9)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_gradient_of_zero_gives_no_perturbation(adaptive: bool) -> None:
    eps = ascent([torch.ones(3)], [torch.zeros(3)], 0.05, adaptive)
    assert torch.equal(eps[0], torch.zeros(3))


def test_what_is_frozen_is_left_out() -> None:
    model, _ = problem()
    model.bias.requires_grad_(False)
    assert [g["param_names"] for g in built(AdamW(), model).param_groups] == [["weight"]]


@pytest.mark.parametrize("around", [SAM, FunctionalSAM])
@pytest.mark.parametrize("base", [SAM(), FunctionalSAM()])
def test_a_sharpness_aware_optimizer_is_no_base_for_another(around: Any, base: Any) -> None:
    with pytest.raises(ValidationError, match="takes two gradients a step and cannot be a base"):
        around(base=base)


def test_optimizers_validate_compare_and_have_fingerprints() -> None:
    assert SAM() == SAM(base=AdamW(), rho=0.05)
    assert fingerprint(SAM()) != fingerprint(SAM(rho=0.1))
    assert fingerprint(SAM(base=AdamW(eps=1e-6))) != fingerprint(SAM())
    with pytest.raises(ValidationError, match="rho"):
        SAM(rho=-1)
    with pytest.raises(ValidationError, match="momentum"):
        AdamW(momentum=0.9)  # type: ignore[call-arg]
