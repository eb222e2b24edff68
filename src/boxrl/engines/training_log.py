"""What a training run writes while it runs, and how it is stopped without losing work."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from boxrl.data.files import finite, write_atomic
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
    "mean_token_accuracy": "token_accuracy",
}
"""TRL's log keys -> those of metrics.jsonl; rewards go under `rewards` by name."""


class MetricsLog(TrainerCallback):
    """Appends one row per logged step to metrics.jsonl and shows the newest on the bar."""

    def __init__(self, path: Path, bar: Bar) -> None:
        self.path, self.bar = path, bar
        self.before = 0.0
        self.began = time.monotonic()

    def resume_at(self, step: int) -> None:
        """Drop rows of steps after the checkpoint, which are made again."""
        if not self.path.exists():
            return
        lines = self.path.read_text("utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["step"] <= step]
        self.before = rows[-1]["time_s"] if rows else 0.0
        with write_atomic(self.path) as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write the row."""
        if not logs or "loss" not in logs:
            return  # the summary at the end of training
        row: dict[str, Any] = {
            "step": state.global_step,
            "time_s": round(self.before + time.monotonic() - self.began, 3),
        }
        row.update({new: float(logs[old]) for old, new in RENAMED.items() if old in logs})
        row["rewards"] = {
            key.split("/")[1]: float(value)
            for key, value in logs.items()
            if key.startswith("rewards/") and key.endswith("/mean")
        }
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(finite(row)) + "\n")
        shown = [f"loss {row['loss']:.3f}"] if not row["rewards"] else []
        shown += [f"{name} {value:.2f}" for name, value in row["rewards"].items()]
        self.bar.note("  ".join(shown))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Move the bar."""
        self.bar.advance()


class StopGracefully(TrainerCallback):
    """SIGINT and SIGTERM end the run after the current step, with a checkpoint.

    A second SIGINT stops at once; the run then goes on from the last checkpoint.
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
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint and the end."""
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True
