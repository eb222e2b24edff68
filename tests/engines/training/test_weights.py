"""Steps that bfloat16 cannot hold: kept by the optimizer, counted, restored on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.tensor import Shard, distribute_tensor  # noqa: E402

from boxrl.engines.training.weights import ChangedWeights, keep_in_float32  # noqa: E402

RATE = 1e-6


def weights(dtype: Any, n: int = 4096) -> Any:
    values = torch.randn(n, generator=torch.Generator().manual_seed(0)) * 0.02
    return torch.nn.Parameter(values.bfloat16().to(dtype))


def optimizer_of(weight: Any, keep: bool) -> Any:
    optimizer = torch.optim.AdamW([weight], lr=RATE, weight_decay=0.0)
    if keep:
        keep_in_float32(optimizer)
    return optimizer


def step(optimizer: Any, weight: Any, times: int) -> None:
    for _ in range(times):
        weight.grad = torch.ones_like(weight)
        optimizer.step()


@pytest.mark.parametrize(("keep", "kept"), [(False, False), (True, True)])
def test_a_hundred_steps_move_the_model_s_weights(keep: bool, kept: bool) -> None:
    weight = weights(torch.bfloat16)
    before = weight.detach().clone()
    step(optimizer_of(weight, keep), weight, 100)
    moved = float((before.float() - weight.detach().float()).mean())
    assert (moved == pytest.approx(100 * RATE, rel=0.05)) == kept
    assert weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("keep", "expected"), [(False, (0.0, 0.05)), (True, (0.9, 1.0))])
def test_the_share_of_changed_weights(keep: bool, expected: tuple[float, float]) -> None:
    weight = weights(torch.bfloat16)
    optimizer = optimizer_of(weight, keep)
    changed = ChangedWeights(optimizer)
    assert changed.take_share() is None
    step(optimizer, weight, 3)
    share = changed.take_share()
    assert share is not None and expected[0] <= share <= expected[1]
    assert changed.take_share() is None


def test_float32_weights_are_left_alone() -> None:
    kept, plain = weights(torch.float32), weights(torch.float32)
    for weight, keep in ((kept, True), (plain, False)):
        step(optimizer_of(weight, keep), weight, 3)
    assert torch.equal(kept, plain)


def test_the_model_holds_the_float32_weights_rounded() -> None:
    half, single = weights(torch.bfloat16), weights(torch.float32)
    for weight, keep in ((half, True), (single, False)):
        step(optimizer_of(weight, keep), weight, 40)
    assert torch.equal(half, single.bfloat16())


def test_a_saved_optimizer_goes_on_where_it_was() -> None:
    whole, cut = weights(torch.bfloat16), weights(torch.bfloat16)
    step(optimizer_of(whole, keep=True), whole, 40)
    first = optimizer_of(cut, keep=True)
    step(first, cut, 15)
    resumed = torch.nn.Parameter(cut.detach().clone())
    second = optimizer_of(resumed, keep=True)
    second.load_state_dict(first.state_dict())
    step(second, resumed, 25)
    assert torch.equal(resumed, whole)


class Manager:
    """As that of bitsandbytes: settings of a weight, known by the module that has it."""

    def __init__(self, module: Any) -> None:
        self.module_weight_config_triple: list[Any] = []
        self.register_module_override(module, "weight", {"optim_bits": 32})

    def register_module_override(self, *triple: Any) -> None:
        self.module_weight_config_triple.append(triple)


class EightBit(torch.optim.AdamW):  # type: ignore[misc,name-defined]
    """As an optimizer of bitsandbytes, which loads its state without torch's hooks."""

    def __init__(self, module: Any) -> None:
        super().__init__(module.parameters(), lr=RATE, weight_decay=0.0)
        self.mng = Manager(module)

    def load_state_dict(self, state: Any, move_to_device: bool = True) -> None:
        for key, value in state["state"].items():
            self.state[self.param_groups[0]["params"][key]] = value


def test_optimizers_of_bitsandbytes_go_on_and_keep_32_bits_for_embeddings() -> None:
    modules = [torch.nn.Embedding(64, 64).bfloat16() for _ in range(2)]
    first, second = map(EightBit, modules)
    for optimizer in (first, second):
        keep_in_float32(optimizer)
    step(first, modules[0].weight, 3)
    second.load_state_dict(first.state_dict())
    (ours,), (own,) = first.param_groups[0]["params"], second.param_groups[0]["params"]
    assert torch.equal(own, ours) and own.dtype == torch.float32
    *_, (holder, name, settings) = second.mng.module_weight_config_triple
    assert getattr(holder, name) is own and settings == {"optim_bits": 32}


def test_a_group_s_learning_rate_stays_its_own() -> None:
    slow, fast = weights(torch.bfloat16), weights(torch.bfloat16)
    groups = [{"params": [slow], "lr": 0.0}, {"params": [fast], "lr": 1e-3}]
    optimizer = torch.optim.SGD(groups)
    keep_in_float32(optimizer)
    slow.grad, fast.grad = torch.ones_like(slow), torch.ones_like(fast)
    optimizer.step()
    assert torch.equal(slow, weights(torch.bfloat16))
    assert not torch.equal(fast, weights(torch.bfloat16))
    assert slow.grad is None and fast.grad is None


def test_a_process_looks_at_its_part_of_a_sharded_weight(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        weight = torch.nn.Parameter(distribute_tensor(torch.randn(8, 4), mesh, [Shard(0)]))
        optimizer = torch.optim.AdamW([weight], lr=1e-3)
        changed = ChangedWeights(optimizer)
        step(optimizer, weight, 1)
        assert changed.take_share() == 1.0
    finally:
        torch.distributed.destroy_process_group()
