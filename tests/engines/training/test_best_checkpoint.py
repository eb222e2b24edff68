"""Validation samples are answered once, however many processes train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.distributed import destroy_process_group, init_process_group  # noqa: E402

from boxrl.data.predictions import Prediction  # noqa: E402
from boxrl.data.synthetic import World, scenes  # noqa: E402
from boxrl.engines.training.best_checkpoint import KeepBest  # noqa: E402
from boxrl.generation.predict import Sampling  # noqa: E402

PROCESSES, SAMPLES = 2, 6


class Answering:
    """Stands in for a Generator."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.model = SimpleNamespace(
            training=True, config=SimpleNamespace(use_cache=False), eval=list, train=bool
        )

    def answer(self, samples: Sequence[Any], _sampling: Sampling) -> list[Prediction]:
        self.asked += [sample.id for sample in samples]
        return [Prediction(sample.id, "", 1, "stop") for sample in samples]


def work(rank: int, folder: str) -> None:
    """One of the processes; what it was asked and what it holds for best."""
    init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    samples = [scene.sample for scene in scenes(World(), SAMPLES, 0, "best")]
    generator = Answering()
    keep = KeepBest(
        generator,
        samples,
        lambda asked, answers: {"mAP": len(answers) / len(asked)},
        Sampling(batch_size=2),
        Path(folder) / "validation.jsonl",
    )
    state = SimpleNamespace(
        is_world_process_zero=rank == 0, global_step=1, best_metric=None, best_global_step=None
    )
    args = SimpleNamespace(device=torch.device("cpu"), world_size=PROCESSES, process_index=rank)
    keep.on_step_end(args, state, SimpleNamespace(should_save=True))
    found = {"asked": generator.asked, "best": state.best_metric}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    destroy_process_group()


@pytest.mark.slow
def test_processes_share_the_validation_samples(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), PROCESSES)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    assert [row["best"] for row in found] == [1.0, 1.0]
    assert len((tmp_path / "validation.jsonl").read_text().splitlines()) == 1
    assert sum(len(row["asked"]) for row in found) == SAMPLES
