"""`boxrl doctor`: what is missing or wrong before a training finds out."""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from boxrl.cli.options import (
    MODEL_FAMILY,
    PREDICTED_FAMILY,
    RESAMPLES,
    REWARDS,
    Input,
    add_device,
    add_images,
    add_json,
    add_limits,
    add_samples,
    add_seed,
    add_thinking,
    integer,
    number,
    print_json,
    read_rewards,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra, tally

SHOWN_IDS = 3

COMPARED_REWARDS = "ap,od_length,weighted_sum,f1"
"""What `doctor rewards` shows unless rewards are named, each by itself: nobody adds these up."""

LEAK = 0.05
"""Share of samples from which on a verdict names a probe; a box may truly fill its image."""

TORCHVISION = {
    "missing": "missing; no model that reads images can be loaded",
    "works": "works",
    "repaired": "built for another torch; repaired in memory, images are prepared with it",
}
"""States of torchvision in words."""


def add_verb(verbs: Any) -> None:
    """Declare `boxrl doctor`: its checks `env`, `rewards`, `parity` and `drift`."""
    verb = add_command(
        verbs, "doctor", "find out what is missing and which rewards leak", example="boxrl doctor"
    )
    add_json(verb)
    verb.set_defaults(run=check_environment)
    checks = verb.add_subparsers(title="checks (default: env)", metavar="CHECK")
    env = add_command(
        checks, "env", "show what is installed and what is missing", example="boxrl doctor env"
    )
    # Its own default would overwrite what stands before `env`.
    add_json(env, argparse.SUPPRESS)
    env.set_defaults(run=check_environment)
    _add_rewards(checks)
    _add_parity(checks)
    _add_drift(checks)


def _add_rewards(checks: Any) -> None:
    verb = add_command(
        checks, "rewards", "show what rewards pay for answers that game them",
        example="boxrl doctor rewards --samples train.jsonl --rewards f1,weighted_sum",
    )  # fmt: skip
    add_samples(verb)
    verb.add_argument(
        "--rewards", metavar="a,b,c",
        help=f"{REWARDS}; several are also summed, as a trainer does (default: each of "
        f"{COMPARED_REWARDS})",
    )  # fmt: skip
    verb.add_argument(
        "--margin", type=number(0), default=0.1, metavar="X",
        help="a worse answer must earn this much less than gold",
    )  # fmt: skip
    verb.add_argument(
        "--limit", type=integer(1), default=500, metavar="N", help="samples drawn from the file"
    )
    add_seed(verb, "of the samples drawn and of the probes")
    verb.add_argument(
        "--select", action="store_true",
        help="show what each reward selects for among the completions of --predictions",
    )  # fmt: skip
    verb.add_argument(
        "--predictions", type=Input, metavar="FILE.jsonl",
        help="for --select: several completions a sample, of boxrl predict --n 8 --temperature 1",
    )  # fmt: skip
    verb.add_argument("--family", metavar="NAME", help=f"for --select: {PREDICTED_FAMILY}")
    add_json(verb, argparse.SUPPRESS)
    verb.set_defaults(run=probe_rewards)


def check_environment(args: argparse.Namespace) -> int:
    """Say what is installed; exit status 1 where a base package is missing or does not fit."""
    from boxrl.environment import describe_environment

    facts = describe_environment()
    if args.json:
        print(json.dumps(facts))  # works where packages that other verbs import are missing
        return int(not facts["ok"])
    print(f"boxrl {facts['boxrl']}, Python {facts['python']}, {facts['platform']}")
    if importlib.util.find_spec("rich") is not None:
        print_packages(facts)
    for line in _machine_lines(facts):
        print(line)
    for extra in facts["extras"].values():
        if extra["install"]:
            print(f"missing for {extra['needed_for']}: {extra['install']}")
    if not facts["ok"]:
        bad = ", ".join(package["name"] for package in facts["base"] if not package["ok"])
        print(f"boxrl: {bad}: missing or too old; run: {facts['install']}", file=sys.stderr)
    return int(not facts["ok"])


def print_packages(facts: Mapping[str, Any]) -> None:
    """Every package beside the version that boxrl was tested with."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("package", "installed", "tested with", "wanted"):
        table.add_column(column, no_wrap=True)
    groups = {"boxrl itself": facts["base"]}
    groups |= {f"boxrl[{name}]": extra["packages"] for name, extra in facts["extras"].items()}
    for group, packages in groups.items():
        table.add_section()
        table.add_row(f"[bold]{escape(group)}[/]")
        for package in packages:
            colour = (
                "green" if package["ok"] else "bold red" if group == "boxrl itself" else "yellow"
            )
            table.add_row(
                f"  {package['name']}",
                f"[{colour}]{package['version'] or 'missing'}[/]",
                package["tested"] or "-",
                package["wanted"],
            )
    Console(highlight=False).print(table)


def _machine_lines(facts: Mapping[str, Any]) -> list[str]:
    """What training and generation would run on."""
    machine, torch = facts["machine"], facts["torch"]
    lines = [
        f"cpus: {machine['cpus']}",
        f"memory: {_size(machine['memory_gib'])}, "
        f"{_size(machine['memory_available_gib'])} available",
        f"disk here: {_size(machine['disk_gib'])}, {_size(machine['disk_free_gib'])} free",
    ]
    if torch is None:
        return [*lines, "torch: missing"]
    if "error" in torch:
        return [*lines, f"torch: cannot be imported ({torch['error']})"]
    built = f"built for CUDA {torch['cuda']}" if torch["cuda"] else "built for CPUs"
    lines.append(f"torch: runs on {torch['device']}, {built}")
    for gpu in torch["gpus"]:
        lines.append(
            f"gpu: {gpu['name']}, {_size(gpu['memory_gib'])}, {_size(gpu['free_gib'])} free"
        )
    return [*lines, f"torchvision: {TORCHVISION[torch['torchvision']]}"]


def _size(gib: float | None) -> str:
    return "unknown" if gib is None else f"{gib:.1f} GiB"


def probe_rewards(args: argparse.Namespace) -> None:
    """Run the battery of probes on the user's samples, or weigh the user's completions."""
    if args.select or args.predictions is not None:
        select_by_rewards(args)
        return
    from boxrl.data.samples import read_samples
    from boxrl.errors import DataError
    from boxrl.rewards.probes import run_probes

    rewards = read_rewards(args.rewards or COMPARED_REWARDS)
    samples = read_samples(args.samples)
    samples = [sample for sample in samples if sample.task in ("detection", "grounding")]
    if not samples:
        raise DataError(f"{args.samples}: no detection or grounding samples; probes need boxes")
    if len(samples) > args.limit:
        samples = random.Random(args.seed).sample(samples, args.limit)
    results = run_probes(samples, rewards, args.margin, args.seed)
    if args.rewards is None:
        del results["rewards"]["sum"]
    if args.json:
        print_json(results)
    else:
        print_probes(results)


def print_probes(results: Mapping[str, Any]) -> None:
    """The battery as a table, then a verdict per reward."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from boxrl.rewards.probes import PROBES

    rewards: Mapping[str, Any] = results["rewards"]
    worse = [name for name, probe in PROBES.items() if probe.worse]
    table = Table(
        title=f"What rewards pay: mean of {tally(results['n'], 'sample')}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("answer", no_wrap=True)
    for name in rewards:
        table.add_column(name, justify="right", no_wrap=True)
    for probe in PROBES:
        if probe == worse[0]:
            table.add_section()
        table.add_row(probe, *(_cell(reward["probes"][probe]) for reward in rewards.values()))
    console = Console(highlight=False)
    Console(highlight=False, width=max(console.width, 24 + 13 * len(rewards))).print(table)
    console.print(
        f"[bold red]▲[/] pays a worse answer within {results['margin']:g} of gold, in that share "
        "of samples   [bold yellow]▼[/] pays an answer as good as gold less"
    )
    for name, reward in rewards.items():
        console.print(_verdict(name, reward))


def select_by_rewards(args: argparse.Namespace) -> None:
    """Show what each reward selects for among one policy's completions."""
    from boxrl.data.predictions import read_predictions
    from boxrl.data.samples import read_samples
    from boxrl.evaluate.files import read_settings, settings_family
    from boxrl.evaluate.selection import measure_selection

    if args.predictions is None or not args.select:
        raise UsageError(
            "--select and --predictions go together: completions of boxrl predict --n 8 "
            "--temperature 1"
        )
    rewards = read_rewards(args.rewards or COMPARED_REWARDS)
    settings = read_settings(args.predictions)
    results = measure_selection(
        read_samples(args.samples),
        read_predictions(args.predictions),
        settings_family(settings, args.family, str(args.predictions)),
        rewards,
        answer_tag="optional" if settings.get("untagged") else "required",
        opened=bool(settings.get("opens_thought")),
    )
    if args.json:
        print_json(results)
    else:
        print_selection(results)


def print_selection(results: Mapping[str, Any]) -> None:
    """A row per reward, then per difference from the first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from boxrl.evaluate.selection import TRAITS

    table = Table(
        title=f"What rewards select for: {tally(results['n'], 'sample')}, {results['draws']} "
        "completions each, no training",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("reward", no_wrap=True)
    for trait in TRAITS:
        table.add_column(trait, justify="right", no_wrap=True)
    table.add_column("no signal", justify="right", no_wrap=True)
    for name, reward in results["rewards"].items():
        cells = (_moved(reward["traits"][trait]) for trait in TRAITS)
        table.add_row(name, *cells, f"{reward['flat_groups']:.0%}")
    table.add_section()
    for pair, traits in results["beside"].items():
        table.add_row(pair, *(_moved(traits[trait]) for trait in TRAITS), "")
    console = Console(highlight=False)
    Console(highlight=False, width=max(console.width, 26 + 17 * len(TRAITS))).print(table)
    console.print(
        "how far a step of unit size moves the mean of each trait, to first order, +- 95 % over "
        "samples; no signal: samples whose completions all earn the same"
    )


def _moved(found: Mapping[str, Any] | None) -> str:
    """A differential, bold where its interval leaves 0 out."""
    if found is None:
        return "[dim]-[/]"
    text = f"{found['mean']:+.3f} ±{found['high'] - found['mean']:.3f}"
    return text if found["low"] <= 0 <= found["high"] else f"[bold]{text}[/]"


def _cell(paid: Mapping[str, Any]) -> str:
    """Mean pay, and the share of samples in which it is too much or too little."""
    if paid["mean"] is None:
        return "[dim]-[/]     "
    number = f"{paid['mean']:.2f}"
    if paid["overpaid"]:
        return f"[bold red]{number} {'▲' + format(paid['overpaid'], '.0%'):<5}[/]"
    if paid["underpaid"]:
        return f"[bold yellow]{number} {'▼' + format(paid['underpaid'], '.0%'):<5}[/]"
    return f"[green]{number}[/]      "


def _verdict(name: str, reward: Mapping[str, Any]) -> str:
    """What the reward can be gamed with, and where it cannot tell answers apart."""
    from rich.markup import escape

    from boxrl.guard.texts import visible

    leaks = [probe for probe, paid in reward["probes"].items() if paid["overpaid"] >= LEAK]
    verdict = f"overpays {', '.join(leaks)}" if leaks else "overpays none of these"
    flat = reward["zero_variance"]
    if flat:
        some = ", ".join(flat[:SHOWN_IDS]) + (", ..." if len(flat) > SHOWN_IDS else "")
        verdict += f"; the same for every answer in {tally(len(flat), 'sample')} ({some})"
    return f"[bold]{escape(name)}[/] {escape(visible(verdict))}"


def _add_parity(checks: Any) -> None:
    verb = add_command(
        checks, "parity", "compare boxrl's log-probabilities and gradients with TRL's",
        example="boxrl doctor parity --model tiny",
    )  # fmt: skip
    verb.add_argument("--model", required=True, help="model folder, id of the hub, or tiny")
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    add_device(verb)
    verb.add_argument(
        "--attention", choices=("auto", "sdpa", "varlen", "flex"), default="auto",
        help="the recipe's engine.attention",
    )  # fmt: skip
    add_json(verb, argparse.SUPPRESS)
    verb.set_defaults(run=run_parity)


def run_parity(args: argparse.Namespace) -> int:
    """Run one micro-batch three ways; exit status 1 where boxrl's differs."""
    require_train_extra("boxrl doctor parity")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.parity import check_parity
    from boxrl.families import read_family
    from boxrl.generation.model_folders import model_folder

    quiet()
    folder = model_folder(args.model)
    family = read_family(folder, args.family)
    result = check_parity(folder, family, args.dtype, args.device, args.attention)
    if args.json:
        print_json(result)
    else:
        for pair, difference in result["log_prob"].items():
            gradient = result["gradient"][pair]
            print(f"{pair:<32} log-probability {difference:.1e}   gradient {gradient:.1e}")
        log_prob, gradient = result["allowed"].values()
        rounding = f"rounding in {result['dtype']} is at most"
        print(f"{rounding:<32} log-probability {log_prob:.1e}   gradient {gradient:.1e}")
        print(
            "ok" if result["ok"] else "boxrl's differ from TRL's: do not train; report this model"
        )
    return 0 if result["ok"] else 1


def _add_drift(checks: Any) -> None:
    verb = add_command(
        checks, "drift", "measure how far a trained model moved from its base on other prompts",
        example="boxrl doctor drift --base tiny --model tiny-taught --samples val.jsonl "
        "--images images/ --prompt standard",
    )  # fmt: skip
    verb.add_argument("--base", required=True, help="what the model was trained from")
    verb.add_argument("--model", required=True, help="model folder, id of the hub, or tiny")
    add_samples(verb)
    add_images(verb)
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    verb.add_argument(
        "--prompt", default="qwen-native", metavar="NAME|FILE.yaml",
        help="prompt template; the default adds no words to a question",
    )  # fmt: skip
    verb.add_argument(
        "--limit", type=integer(1), default=200, metavar="N", help="only the first N samples"
    )
    verb.add_argument(
        "--max-new-tokens", type=integer(1), default=128, metavar="N",
        help="longest answer of the base model, in tokens",
    )  # fmt: skip
    verb.add_argument("--resamples", type=integer(1), default=1000, metavar="N", help=RESAMPLES)
    add_seed(verb, "of the base model's answers and of the bootstrap")
    add_limits(verb)
    add_thinking(verb)
    add_device(verb)
    add_json(verb, argparse.SUPPRESS)
    verb.set_defaults(run=run_drift)


def run_drift(args: argparse.Namespace) -> None:
    """Load both models and compare them on the samples' prompts."""
    require_train_extra("boxrl doctor drift")
    from boxrl.data.samples import read_samples
    from boxrl.engines.build import EngineOptions, build_engine
    from boxrl.engines.drift import drift_by_sample, summarize_drift
    from boxrl.engines.generate import Generator
    from boxrl.generation.predict import Sampling
    from boxrl.progress import progress_bar

    if not args.images.is_dir():
        raise UsageError(f"--images: no folder {args.images}")
    samples = read_samples(args.samples)[: args.limit]
    if not samples:
        raise UsageError(f"{args.samples}: no samples")
    options = EngineOptions(
        args.base,
        family=args.family,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        thinking=None if args.thinking is None else args.thinking == "on",
        device=args.device,
        dtype=args.dtype,
    )
    base, model = (
        cast(Generator, build_engine(replace(options, model=name), args.prompt, args.images))
        for name in (args.base, args.model)
    )
    sampling = Sampling(1.0, max_new_tokens=args.max_new_tokens, seed=args.seed, batch_size=4)
    with progress_bar("drift", len(samples)) as bar:
        rows = drift_by_sample(base, model, samples, sampling, bar.advance)
    found = summarize_drift(rows, samples, args.seed, args.resamples)
    if args.json:
        print_json(found | {"base": args.base, "model": args.model, "prompt": args.prompt})
    else:
        print_drift(found)


def print_drift(found: Mapping[str, Any]) -> None:
    """Both figures with their intervals, and what they mean."""
    for key, name in (
        ("kl", "KL from the base, nats per token"),
        ("other_choice", "tokens of which another is likeliest"),
    ):
        ends = found["intervals"][key]
        span = f"   95 % {ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
        print(f"{name:<38}{found[key]:.4f}{span}")
    print(f"over {found['tokens']:,} tokens of the base's answers to {found['n']:,} prompts")
