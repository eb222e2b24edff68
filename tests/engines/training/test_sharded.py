"""Weights sharded over two processes: the shared prefix trains as it does in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.distributed import destroy_process_group, init_process_group  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402

from boxrl.engines.prefix.shared_prefix import enable, log_probs  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from tests.support.random_models import KINDS, Batch, build_batch, build_model  # noqa: E402

SIZE, PROCESSES, STEPS = 3, 2, 5


def losses(model: Any, batch: Batch, groups: list[int]) -> list[float]:
    """Five AdamW steps on some of the groups; every group weighs the same."""
    rows = split_rows(batch.inputs, batch.n_completion)
    rows = rows.between(SIZE * groups[0], SIZE * (groups[-1] + 1))
    weights = torch.randn(batch.completion_mask.shape, generator=torch.Generator().manual_seed(1))
    weights = weights[SIZE * groups[0] : SIZE * (groups[-1] + 1)]
    own = [list(range(k * SIZE, k * SIZE + SIZE)) for k in range(len(groups))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    found = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (log_probs(model, rows, own)[0] * weights).sum() / len(groups)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def shard(model: Any) -> None:
    """As accelerate does it for FSDP2: every layer, then the rest."""
    core = model.model
    vision = getattr(core, "visual", None)
    blocks = vision.blocks if vision is not None else core.vision_tower.encoder.layer
    for layer in (*blocks, *core.language_model.layers):
        fully_shard(layer)
    fully_shard(model)


def work(rank: int, folder: str) -> None:
    """One of the processes; rank 0 writes the mean losses by kind."""
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    found = {}
    for kind in KINDS:
        model = build_model(kind).train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        enable(model)
        shard(model)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        own = torch.tensor(losses(model, build_batch(kind, PROCESSES, SIZE, (5, 3, 4)), [rank]))
        torch.distributed.all_reduce(own)
        found[kind] = (own / PROCESSES).tolist()
    if rank == 0:
        (Path(folder) / "losses.json").write_text(json.dumps(found))
    destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_fsdp2_give_the_losses_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), PROCESSES)
    found = json.loads((tmp_path / "losses.json").read_text())
    for kind in KINDS:
        model = build_model(kind).train()
        enable(model)
        both = list(range(PROCESSES))
        expected = losses(model, build_batch(kind, PROCESSES, SIZE, (5, 3, 4)), both)
        assert found[kind] == pytest.approx(expected, rel=1e-4)
        assert abs(expected[0] - expected[-1]) > 1e-2  # something was learnt
