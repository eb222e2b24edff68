"""Projections of gradients have the norms of gradients, of their sums and differences."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.training.projections import (  # noqa: E402
    Projections,
    Projector,
    relative_difference,
)


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Embedding(5000, 16), torch.nn.Linear(16, 300), torch.nn.Linear(300, 1)
    )


def draw(model: torch.nn.Module, kind: str, seed: int) -> dict[str, torch.Tensor]:
    """Gradients that are dense, of few rows, or of one."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, parameter in model.named_parameters():
        gradient = torch.randn(parameter.shape, generator=generator)
        if kind != "dense" and gradient.ndim > 1:
            gradient[3 if kind == "rows" else 1 :] = 0
        found[name] = gradient
    return found


def norm(gradients: dict[str, torch.Tensor]) -> float:
    return sum(float(x.square().sum()) for x in gradients.values()) ** 0.5


def project(model: torch.nn.Module, gradients: dict[str, torch.Tensor]) -> Projections:
    projector = Projector(model)
    return {name: projector.project(x) for name, x in gradients.items()}


@pytest.mark.parametrize("kind", ["dense", "rows", "row"])
@pytest.mark.parametrize("seed", range(4))
def test_differences_have_the_norm_of_those_of_gradients(kind: str, seed: int) -> None:
    model = build()
    one, other = draw(model, kind, seed), draw(model, kind, 100 + seed)
    near = {name: one[name] + 1e-3 * other[name] for name in one}
    exact = 1e-3 * norm(other) / norm(one)
    found = relative_difference(project(model, near), project(model, one))
    assert found == pytest.approx(exact, rel=0.4)
    assert relative_difference(project(model, one), project(model, one)) == 0


def test_backward_passes_add_up_and_leave_no_gradient() -> None:
    model, projector = build(), Projector(build())
    ids = torch.arange(40)
    with projector.collecting(model) as parts:
        for half in ids.split(20):
            model(half).square().sum().backward()
        assert all(p.grad is None for p in model.parameters())
    model(ids).square().sum().backward()
    whole = {name: projector.project(p.grad) for name, p in model.named_parameters()}
    assert relative_difference(parts, whole) < 1e-5
    model.zero_grad()
    model(ids).sum().backward()
    assert all(p.grad is not None for p in model.parameters())  # the hooks are gone


def test_a_parameter_without_a_gradient_is_a_difference() -> None:
    model = build()
    whole = project(model, draw(model, "dense", 0))
    assert relative_difference({n: x for n, x in whole.items() if n != "1.weight"}, whole) > 0.05


def test_nothing_is_said_of_no_gradients() -> None:
    assert math.isnan(relative_difference({}, {"0.weight": torch.zeros(1)}))
    assert relative_difference({"0.weight": torch.ones(1)}, {}) == math.inf
