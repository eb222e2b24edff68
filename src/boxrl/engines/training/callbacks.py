"""What a training run writes while it runs, and how it is stopped without losing work."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from boxrl.data.files import finite, is_number
from boxrl.engines.training.checkpoints import cut_back
from boxrl.engines.training.warnings import warnings
from boxrl.errors import DataError
from boxrl.progress import Bar

RENAMED = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "clipped",
    "frac_reward_zero_std": "zero_variance",
    "entropy": "entropy",
    "kl": "kl",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "weights_changed": "weights_changed",
    "clip_ratio/region_mean": "clip_ratio",
    "boxes_per_target": "boxes_per_target",
    "invented_labels": "invented_labels",
    "duplicates": "duplicates",
    "readable": "readable",
    "partial": "partial",
    "other_frame": "other_frame",
    "mean_token_accuracy": "token_accuracy",
}
"""TRL's log keys -> those of metrics.jsonl; rewards go under `rewards` by name."""


def _check_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Refuse to go on after rows that are none of a training: times and warnings build on them."""
    for row in rows:
        numbers = {"time_s": row.get("time_s", "missing")}
        numbers |= {key: row[key] for key in RENAMED.values() if row.get(key) is not None}
        wrong = [(key, value) for key, value in numbers.items() if not is_number(value)]
        if not isinstance(row.get("warnings", {}), dict):
            wrong.append(("warnings", row["warnings"]))
        if wrong:
            key, value = wrong[0]
            raise DataError(
                f"{path}: step {row['step']}: {key} is {value!r:.40}, which no training wrote; "
                "remove the row, or train into another folder"
            )


class MetricsLog(TrainerCallback):
    """Appends one row per logged step to metrics.jsonl; the newest figures go to the bar.

    What looks wrong, and what the trainer has to say, is said once per kind, and kept in the row's
    `warnings`.
    """

    def __init__(
        self,
        path: Path,
        bar: Bar,
        max_length: int,
        step: int = 0,
        notices: Mapping[str, str] | None = None,
    ) -> None:
        """Go on after `step`; rows of later steps are made again. `notices` may still grow.

        Raises:
            DataError: a row that is there is none of a training.
        """
        self.path, self.bar, self.max_length = path, bar, max_length
        self.notices = {} if notices is None else notices
        self.rows: list[dict[str, Any]] = cut_back(path, step)
        _check_rows(self.rows, path)
        self.told = {kind for row in self.rows for kind in row.get("warnings", ())}
        self.before = self.rows[-1]["time_s"] if self.rows else 0.0
        self.began = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write the row; arguments as TrainerCallback's.

        Raises:
            FloatingPointError: loss or gradient is NaN or infinite.
        """
        if not logs or "loss" not in logs:
            return  # the summary at the end of training
        if state.is_world_process_zero:  # other processes log the same
            self._append(state.global_step, logs)
        norm = 0.0 if args.fp16 else logs.get("grad_norm") or 0.0  # fp16 skips such steps
        if not math.isfinite(logs["loss"]) or not math.isfinite(norm):
            raise FloatingPointError(f"step {state.global_step}: {logs}")

    def _append(self, step: int, logs: dict[str, Any]) -> None:
        row: dict[str, Any] = {
            "step": step,
            "time_s": round(self.before + time.monotonic() - self.began, 3),
        }
        row.update({new: _number(logs[old]) for old, new in RENAMED.items() if old in logs})
        row["rewards"] = {
            key.split("/")[1]: _number(value)
            for key, value in logs.items()
            if key.startswith("rewards/") and key.endswith("/mean")
        }
        self.rows.append(row)
        found = {**self.notices, **warnings(self.rows, self.max_length)}
        new = {kind: text for kind, text in found.items() if kind not in self.told}
        if new:
            row["warnings"] = new
            self.told |= set(new)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(finite(row)) + "\n")
        for text in new.values():
            self.bar.say(f"step {step}: {text}")
        figures = row["rewards"] or {"loss": row["loss"]}
        shown = [f"{name} {v:.2f}" for name, v in figures.items() if v is not None]
        self.bar.note("  ".join(shown))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Move the bar."""
        self.bar.advance()


def _number(value: Any) -> float | None:
    """TRL logs None where no value of a step applied."""
    return None if value is None else float(value)


class StopGracefully(TrainerCallback):
    """SIGINT and SIGTERM end the run after the current step, with a checkpoint.

    A signal to one of several processes ends all of them after the same step. A second SIGINT
    stops at once; the run then goes on from the last checkpoint.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopGracefully:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: Any) -> None:
        if self.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped = True  # launchers send SIGTERM after what came from the terminal

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint and the end, where any process was told to stop."""
        if args.world_size > 1:
            told = torch.tensor(float(self.stopped), device=args.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            self.stopped = bool(told)
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True
