"""A run is stopped by a signal: all its processes after the same step."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch.distributed import destroy_process_group, init_process_group  # noqa: E402

from boxrl.engines.training.callbacks import StopGracefully  # noqa: E402

PROCESSES = 2


def work(rank: int, folder: str) -> None:
    """One of the processes; the signal reaches the second alone."""
    init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    stop, seen = StopGracefully(), []
    args = SimpleNamespace(device=torch.device("cpu"), world_size=PROCESSES)
    for step in range(2):
        stop.stopped = stop.stopped or (rank == 1 and step == 1)
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        stop.on_step_end(args, SimpleNamespace(global_step=step), control)
        seen.append([control.should_save, control.should_training_stop])
    (Path(folder) / f"{rank}.json").write_text(json.dumps(seen))
    destroy_process_group()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), PROCESSES)
    for rank in range(PROCESSES):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert seen == [[False, False], [True, True]]
