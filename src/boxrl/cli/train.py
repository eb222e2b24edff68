"""`boxrl train`: SFT or GRPO as the recipe says, on one process or several; what it needs."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import add_overrides, add_run_folder, add_summary, integer
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra

if TYPE_CHECKING:
    from boxrl.config import Recipe
    from boxrl.engines.training.memory import Estimate


def add_verb(verbs: Any) -> None:
    """Declare `boxrl train`."""
    verb = add_command(
        verbs, "train", "train with SFT or GRPO, as the recipe says",
        example="boxrl train recipe.yaml train.max_steps=100",
    )  # fmt: skip
    verb.add_argument("recipe", metavar="RECIPE", help="a .yaml file, or a shipped recipe by name")
    add_overrides(verb)
    add_run_folder(verb)
    verb.add_argument(
        "--dry-run",
        action="store_true",
        help="say what memory a step takes and stop; the model may be the name of a published one",
    )
    verb.add_argument(
        "--gpu-memory", type=float, metavar="GB",
        help="with --dry-run: memory of one GPU (default: that of the GPU here)",
    )  # fmt: skip
    add_summary(verb, "with --dry-run: of samples that are not here")
    verb.add_argument(
        "--launch", choices=("accelerate",), help="start several processes on this machine"
    )
    verb.add_argument(
        "--num-processes", type=integer(1), default=1, metavar="N",
        help="with --launch or --dry-run: number of processes, one per GPU",
    )  # fmt: skip
    verb.add_argument(
        "--strategy", choices=("ddp", "zero2", "zero3", "fsdp2"), default="ddp",
        help="with --launch or --dry-run: how model and optimizer are sharded",
    )  # fmt: skip
    verb.add_argument(
        "--write-config", type=Path, metavar="FILE",
        help="with --launch: write accelerate's config and stop",
    )  # fmt: skip
    verb.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int | None:
    """Train a recipe, or say what training it takes."""
    from boxrl.config import find_recipe, load_recipe
    from boxrl.runs import LAUNCHED, Launch, clear_run, numbered_folder

    if args.gpu_memory is not None and not (args.dry_run and 0 < args.gpu_memory < math.inf):
        raise UsageError(
            f"--gpu-memory goes with --dry-run and is a positive number of GB, got "
            f"{args.gpu_memory:g}{'' if args.dry_run else ' without --dry-run'}"
        )
    _refuse_idle_options(args)
    is_here = args.summary is None
    recipe = load_recipe(
        find_recipe(args.recipe), args.overrides, check_files=is_here, modules=Path.cwd()
    )
    process = Launch.read()
    named = "out" in recipe.model_fields_set or args.replace
    if not named and process.world == 1:
        recipe = recipe.model_copy(update={"out": numbered_folder(recipe.out, args.resume)})
    require_train_extra("boxrl train")
    if is_here:
        check_samples(recipe, args.num_processes)
    if args.dry_run:
        return print_estimate(args, recipe)
    if args.replace and process.is_first and not args.write_config:
        clear_run(recipe.out)
    if args.launch:
        launch_train(args, recipe)
        if not args.write_config:
            print_outcome(args, recipe)
        return None
    from boxrl.engines.answers import score_answers
    from boxrl.engines.training.train import train_run

    train_run(recipe, args.resume, score_answers, print_start)
    if process.is_first and LAUNCHED not in os.environ:
        print_outcome(args, recipe, alone=process.world == 1)
    return None


def check_samples(recipe: Recipe, processes: int) -> None:
    """Refuse what would train nothing, before a model is loaded or a process started."""
    from boxrl.data.samples import read_samples
    from boxrl.engines.steps import check_steps

    drawn = recipe.data.synthetic
    count = drawn.train if drawn else len(read_samples(recipe.data.train or Path()))
    check_steps(recipe, count, processes)


def print_start(recipe: Recipe) -> None:
    """How good the model is before it is trained, on the held-out samples."""
    from boxrl.engines.change import measure_start
    from boxrl.evaluate.verdict import evaluation_verdict

    if start := measure_start(recipe):
        print(f"before training: {evaluation_verdict(start.metrics)}", flush=True)
        for hint in start.metrics.get("hints", ()):
            print(f"hint: {hint}", flush=True)


def print_outcome(args: argparse.Namespace, recipe: Recipe, alone: bool = True) -> None:
    """What the training changed, on its own samples and the held-out ones; what to run next.

    Args:
        args: of the call.
        recipe: of the run, which has ended.
        alone: no launcher waits for this process, so it may take its time to answer samples.
    """
    from rich.console import Console

    from boxrl.cli.tables import plain, print_change, print_hints, print_next, shell
    from boxrl.config import asking_options
    from boxrl.data.files import read_jsonl
    from boxrl.engines.change import measure_change
    from boxrl.evaluate.verdict import by_heart_verdict, learning_verdict

    console, out = Console(), recipe.out
    asked = f"--model {shell(out / 'model')}{asking_options(recipe.model_dump())}"
    console.print(plain(f"model: {out / 'model'}"), soft_wrap=True)
    change = measure_change(recipe) if alone else None
    steps = [f"boxrl report {shell(out)}", f"boxrl export {shell(out)} --out MODEL"]
    if change is None:
        data = recipe.data
        files = "--samples VAL.jsonl --images DIR"
        if data.test is not None and data.images is not None:
            files = f"--samples {shell(data.test)} --images {shell(data.images)}"
        steps.insert(0, f"boxrl predict {files} {asked} "
                     f"--out {shell(out / 'evals/val/predictions.jsonl')}")  # fmt: skip
    else:
        title = f"{len(change.after.rows)} held-out samples, greedy, prompt {recipe.prompt!r}"
        print_change(console, title, change.difference, change.before.metrics["blind"])
        print_hints(console, change.after.metrics.get("hints", ()))
        steps.insert(1, f"boxrl demo {asked}")
        if recipe.method == "sft" and recipe.data.test is not None:
            steps.append(rewarded(recipe))
    log = out / "metrics.jsonl"  # not there where logging_steps are more than the run's
    rows = [row for _, row in read_jsonl(log)] if log.is_file() else []
    learning = learning_verdict(rows)
    said = by_heart_verdict(rows, change.after.metrics) if change else ""
    if learning and learning.goes_on and not said:
        said = "it was still learning when it ended"
        if alone:  # another launcher's command is not known here
            steps.insert(0, further(args, recipe))
    if learning is not None:
        words = "; ".join(filter(None, (learning.words, said)))
        console.print(words, soft_wrap=True, highlight=False)
    print_next(console, *steps)


def rewarded(recipe: Recipe) -> str:
    """The command that writes the recipe of GRPO from an SFT run's model, on the same samples."""
    data = recipe.data
    words = ["boxrl", "init", "--samples", data.train, "--validation", data.test,
             "--images", data.images, "--model", recipe.out / "model"]  # fmt: skip
    note = "" if recipe.prompt == "standard" else f"   # then prompt: {recipe.prompt} in it"
    return f"{shlex.join(map(str, words))} > grpo.yaml{note}"


def further(args: argparse.Namespace, recipe: Recipe) -> str:
    """The command that trains a finished run four times as long."""
    kept = [text for text in args.overrides if not text.startswith(("out=", "train.max_steps="))]
    several = []
    if args.launch:
        several = ["--launch", args.launch, "--num-processes", str(args.num_processes),
                   "--strategy", args.strategy]  # fmt: skip
    return shlex.join([
        "boxrl", "train", args.recipe, *kept, f"out={recipe.out}", *several,
        "--resume", f"train.max_steps={4 * recipe.train.max_steps}",
    ])  # fmt: skip


def launch_train(args: argparse.Namespace, recipe: Recipe) -> None:
    """Train on several processes; with --write-config only write what they are started with."""
    from boxrl.engines.training.launch import launch, write_config

    path = args.write_config or recipe.out.with_name(f"{recipe.out.name}.accelerate.yaml")
    write_config(path, recipe, args.num_processes, args.strategy)
    if not args.write_config:
        overrides = [text for text in args.overrides if not text.startswith("out=")]
        launch(path, recipe.out, args.recipe, overrides, args.strategy, args.resume)


def _refuse_idle_options(args: argparse.Namespace) -> None:
    """Stop where an option would do nothing.

    Raises:
        UsageError: it names what the option goes with.
    """
    several = args.launch or args.dry_run
    idle = {
        "--num-processes": args.num_processes != 1 and not several,
        "--strategy": args.strategy != "ddp" and not several,
        "--write-config": args.write_config is not None and not args.launch,
    }
    if args.summary is not None and not args.dry_run:
        raise UsageError("--summary has no effect without --dry-run")
    for option, alone in idle.items():
        if alone:
            raise UsageError(f"{option} has no effect without --launch accelerate")


def print_estimate(args: argparse.Namespace, recipe: Recipe) -> int:
    """What a step needs, per process, as a table; exit status 1 where it does not fit."""
    from rich.console import Console
    from rich.table import Table

    from boxrl.data.summary import read_summary
    from boxrl.engines.build import recipe_options
    from boxrl.engines.known_models import find_known_family
    from boxrl.engines.training.memory import GIB, visible_memory
    from boxrl.engines.training.recompute import settle

    processes, strategy, gpu_memory = args.num_processes, args.strategy, args.gpu_memory
    samples = None
    if args.summary is not None:
        family = find_known_family(recipe_options(recipe, recipe.model))
        samples = read_summary(args.summary).largest(family)
    available = gpu_memory * 1e9 if gpu_memory else visible_memory()
    _, found, said = settle(recipe, available, processes, strategy, samples)
    of = "the process" if processes == 1 else f"each of {processes} processes, {strategy}"
    table = Table()
    table.add_column(f"memory of {of}")
    table.add_column("GiB", justify="right")
    for name, size in found.memory.items():
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_row("peak, training", f"{found.training / GIB:.2f}")
    table.add_row("peak, optimizer's step", f"{found.stepping / GIB:.2f}")
    table.add_row("peak, generating", f"{found.generating / GIB:.2f}")
    console = Console(highlight=False)
    console.print(table)
    for line in (*found.facts, said):
        if line:
            console.print(line, soft_wrap=True)
    if available is None:
        console.print("no GPU here; give its memory with --gpu-memory GB")
        return 0
    return 0 if _print_whether_it_fits(recipe, found, available) else 1


def _print_whether_it_fits(recipe: Recipe, found: Estimate, available: float) -> bool:
    """Say whether a step fits into `available` bytes, with a colocated vLLM beside it."""
    from rich.console import Console

    from boxrl.engines.training.memory import GIB, needed_with_vllm, vllm_share

    console, share = Console(highlight=False), vllm_share(recipe)
    needed = needed_with_vllm(recipe, found, available)
    own = f"{share * available / GIB:.1f}"
    beside = f", {own} of them vLLM's" if share else ""
    if share and recipe.train.trl.get("vllm_enable_sleep_mode"):
        beside = f", vLLM's {own} while it generates"
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
    return fits
