"""Verbs around training: init, export; launching and estimates of `train`."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import add_json, print_json

if TYPE_CHECKING:
    from boxrl.config import Recipe


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    init = verbs.add_parser("init", help="a recipe for your samples, model and GPUs")
    init.add_argument("--samples", type=Path, required=True, metavar="FILE.jsonl")
    init.add_argument("--images", type=Path, required=True, metavar="DIR")
    init.add_argument("--model", required=True, help="model folder, or tiny")
    init.add_argument("--gpus", type=int, default=1, metavar="N")
    init.add_argument("--gpu-memory", type=float, default=24.0, metavar="GB", help="of one")
    init.add_argument("--method", choices=("grpo", "sft"), default="grpo")
    init.set_defaults(run=run_init)

    export = verbs.add_parser("export", help="trained weights as a plain model folder")
    export.add_argument("source", type=Path, metavar="RUN_OR_CHECKPOINT")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument(
        "--which", choices=("final", "best", "last"), default="final", help="of a run folder"
    )
    export.add_argument("--base", metavar="MODEL", help="base of an adapter; default: its own")
    export.set_defaults(run=run_export)


def add_parity(checks: Any) -> None:
    """Declare `boxrl doctor parity`; `checks` are the subparsers of `doctor`."""
    parity = checks.add_parser(
        "parity", help="boxrl's log-probabilities and gradients beside TRL's"
    )
    parity.add_argument("--model", required=True, help="model folder, or tiny")
    parity.add_argument("--family", help="found from the model's config where it is not named")
    parity.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parity.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="float32")
    add_json(parity, argparse.SUPPRESS)
    parity.set_defaults(run=run_parity)


def run_parity(args: argparse.Namespace) -> int:
    """Run one micro-batch three ways; exit status 1 where boxrl's differs."""
    from boxrl.cli.train import require_train_extra

    require_train_extra("boxrl doctor parity")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.parity import check_parity
    from boxrl.families import read_family
    from boxrl.generation.model_folders import model_folder

    quiet()
    folder = model_folder(args.model)
    result = check_parity(folder, read_family(folder, args.family), args.dtype, args.device)
    if args.json:
        print_json(result)
    else:
        for pair, difference in result["log_prob"].items():
            gradient = result["gradient"][pair]
            print(f"{pair:<32} log-probability {difference:.1e}   gradient {gradient:.1e}")
        print(
            "ok" if result["ok"] else "boxrl's differ from TRL's: do not train; report this model"
        )
    return 0 if result["ok"] else 1


def run_init(args: argparse.Namespace) -> None:
    """Print the recipe."""
    from boxrl.cli.train import require_train_extra

    require_train_extra("boxrl init")
    from boxrl.engines.training.init_recipe import write_recipe

    print(
        write_recipe(
            args.samples, args.images, args.model, args.method, args.gpus, args.gpu_memory
        ),
        end="",
    )


def run_export(args: argparse.Namespace) -> None:
    """Write the model folder."""
    from boxrl.cli.train import require_train_extra

    require_train_extra("boxrl export")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.export import export

    quiet()
    weights = export(args.source, args.out, args.which, args.base)
    print(f"from: {weights}")
    print(f"model: {args.out}")


def print_estimate(recipe: Recipe, gpu_memory: float | None, processes: int, strategy: str) -> int:
    """What a step needs, per process, as a table; exit status 1 where it does not fit."""
    from rich.console import Console
    from rich.table import Table

    from boxrl.engines.training.memory import GIB, estimate, visible_memory, vllm_share

    found = estimate(recipe, processes, strategy)
    of = "the process" if processes == 1 else f"each of {processes} processes, {strategy}"
    table = Table()
    table.add_column(f"memory of {of}")
    table.add_column("GiB", justify="right")
    for name, size in found.memory.items():
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_row("peak, training", f"{found.training / GIB:.2f}")
    table.add_row("peak, generating", f"{found.generating / GIB:.2f}")
    console = Console(highlight=False)
    console.print(table)
    for line in found.facts:
        console.print(line, soft_wrap=True)
    available = gpu_memory * 1e9 if gpu_memory else visible_memory()
    if available is None:
        console.print("no GPU here: name its memory with --gpu-memory GB")
        return 0
    share = vllm_share(recipe)
    needed = found.peak + share * available
    beside = f", {share * available / GIB:.1f} of them vLLM's" if share else ""
    fits = needed <= 0.92 * available  # the rest goes to CUDA itself and to fragmentation
    console.print(
        f"{'fits' if fits else 'does not fit'}: {needed / GIB:.1f} GiB{beside}, of "
        f"{available / GIB:.1f} GiB"
    )
    if not fits:
        console.print(
            "smaller: train.micro_batch_prompts=1, train.lora, train.lora.quantize=4bit, "
            "train.freeze_vision=true, --strategy zero3 on more processes"
        )
    return 0 if fits else 1


def launch(args: argparse.Namespace, recipe: Recipe) -> None:
    """Write the accelerate config beside the run folder, print the plain command, run it.

    Raises:
        BoxrlError: one of the processes failed.
        KeyboardInterrupt: it was stopped, and has ended.
    """
    from boxrl.engines.training.launch import accelerate_config
    from boxrl.errors import BoxrlError, MissingExtra

    path = args.write_config or recipe.out.with_name(f"{recipe.out.name}.accelerate.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(accelerate_config(recipe, args.num_processes, args.strategy), "utf-8")
    if args.write_config:
        return
    if args.strategy in ("zero2", "zero3") and importlib.util.find_spec("deepspeed") is None:
        raise MissingExtra(f"--strategy {args.strategy}", "deepspeed")
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path),
        "-m", "boxrl", "train", str(args.recipe),
        *(o for o in args.overrides if not o.startswith("out=")), f"out={recipe.out}",
    ]  # fmt: skip
    if args.resume:
        command.append("--resume")
    plain = ["accelerate", "launch", *command[3:]]
    print(shlex.join(plain), file=sys.stderr)
    if status := _run_to_its_end(command):
        # The launcher's own last lines are a traceback and a rule.
        raise BoxrlError(
            f"{recipe.out}: a process of the launch failed (accelerate's exit status {status}); "
            "what it said stands above. Put it right; the same command with --resume goes on"
        )


def _run_to_its_end(command: list[str]) -> int:
    """Run the launcher and hand SIGTERM on to it: its processes then write a checkpoint.

    A Ctrl-C reaches them by itself.

    Raises:
        KeyboardInterrupt: it was stopped, and has ended.
    """
    stopped = []
    with subprocess.Popen(command) as process:

        def stop(number: int, _frame: Any) -> None:
            stopped.append(number)
            if number == signal.SIGTERM:
                process.terminate()

        previous = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            status = process.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    if stopped:
        raise KeyboardInterrupt
    return status
