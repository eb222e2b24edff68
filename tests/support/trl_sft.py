"""TRL's own loss of SFT, without a trainer."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from trl import SFTTrainer


def loss_of_trl(model: Any, inputs: dict[str, Any], items: int | None) -> tuple[Tensor, Any]:
    """TRL's own loss, and the figures that it logs of the batch."""

    def same(x: Any) -> Any:
        return x

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), aux_loss_enabled=False, compute_loss_func=None,
        label_smoother=None, _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, _tp_size=1, get_tp_size=lambda: 1,
        accelerator=SimpleNamespace(
            parallelism_config=None, gather_for_metrics=same, num_processes=1
        ),
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False, max_length=None),
    )  # fmt: skip
    loss = SFTTrainer.compute_loss(trainer, model, dict(inputs), num_items_in_batch=items)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}
