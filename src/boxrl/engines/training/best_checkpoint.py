"""Checkpoints scored on held-out samples while the run goes on; the best one is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from boxrl.data.files import finite
from boxrl.data.predictions import Prediction
from boxrl.engines.devices import own_gpu
from boxrl.engines.generate import Generator
from boxrl.engines.training.checkpoints import cut_back
from boxrl.evaluate.verdict import HEADLINES
from boxrl.generation.predict import Sampling
from boxrl.types import Sample

Score = Callable[[Sequence[Sample], dict[str, Prediction]], dict[str, Any]]
"""Metrics of answered samples, as `boxrl evaluate` gives them."""


class KeepBest(TrainerCallback):
    """Before a checkpoint is written, answers the validation samples greedily and scores them.

    Processes share the samples, and each scores all answers. Figures go to validation.jsonl. The
    trainer never deletes the best checkpoint, and trainer_state.json names it.
    """

    def __init__(
        self,
        generator: Generator,
        samples: Sequence[Sample],
        score: Score,
        sampling: Sampling,
        log: Path,
        step: int = 0,
    ) -> None:
        """Score `samples` with `score`; rows of `log` after `step` are made again."""
        self.generator, self.samples, self.score = generator, samples, score
        self.sampling, self.log = sampling, log
        cut_back(log, step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Score the weights that are about to be saved."""
        if not control.should_save:
            return
        answers = self._answers(self.samples[args.process_index :: args.world_size])
        if args.world_size > 1:
            found: list[Any] = [None] * args.world_size
            torch.distributed.all_gather_object(found, answers)
            answers = {key: answer for part in found for key, answer in part.items()}
        metrics = self.score(self.samples, answers)
        figures = {name: metrics[name] for name in HEADLINES if metrics.get(name) is not None}
        if not figures:
            return
        value = next(iter(figures.values()))
        if state.is_world_process_zero:
            with self.log.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(finite({"step": state.global_step, **figures})) + "\n")
        if state.best_metric is None or value > state.best_metric:
            state.best_metric, state.best_global_step = value, state.global_step

    def _answers(self, samples: Sequence[Sample]) -> dict[str, Prediction]:
        """Greedy answers; the training's own randomness goes on as if nothing had been asked."""
        model, size = self.generator.model, self.sampling.batch_size
        training, cached = model.training, model.config.use_cache
        model.eval()
        model.config.use_cache = True
        try:
            with torch.random.fork_rng(own_gpu()):  # by itself it wakes every GPU it sees
                batches = [
                    self.generator.answer(samples[k : k + size], self.sampling)
                    for k in range(0, len(samples), size)
                ]
        finally:
            model.train(training)
            model.config.use_cache = cached
        return {row.id: row for batch in batches for row in batch}
