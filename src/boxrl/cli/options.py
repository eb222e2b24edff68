"""What options of several verbs share: their declarations, ranges of numbers, safe outputs."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any

from boxrl.errors import UsageError

if TYPE_CHECKING:
    from boxrl.evaluate.tables import Format
    from boxrl.rewards import Reward

NO_MODEL_FAMILY = "model family whose frame and syntax answers are in; plain: original pixels"
"""Help of --family where no model says it."""

REWARDS = "reward names, comma-separated; one of your own: my_module:function"
"""Help of --rewards."""

MODEL_FAMILY = "model family (default: read from the model's config.json)"
"""Help of --family beside a model."""

PREDICTED_FAMILY = "model family (default: read from predictions.meta.json)"
"""Help of --family beside predictions."""

RESAMPLES = "bootstrap resamples of the 95 %% intervals"
"""Help of --resamples."""


def add_json(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Declare `--json`; argparse.SUPPRESS keeps what stands before the name of a subparser."""
    parser.add_argument(
        "--json", action="store_true", default=default, help="print one JSON object on stdout"
    )


def print_json(value: Any) -> None:
    """The one object that `--json` promises; numbers that are not finite become null."""
    from boxrl.data.files import finite

    print(json.dumps(finite(value)))  # escaped: right in whatever encoding the terminal has


def add_samples(parser: argparse.ArgumentParser) -> None:
    """Declare `--samples`."""
    parser.add_argument(
        "--samples", type=Input, required=True, metavar="FILE.jsonl",
        help="samples file, as boxrl data convert writes it",
    )  # fmt: skip


def add_summary(parser: argparse.ArgumentParser, of: str) -> None:
    """Declare `--summary`; `of` says of which samples."""
    parser.add_argument(
        "--summary", type=Input, metavar="FILE.json",
        help=f"{of}: their figures, as boxrl data stats --json prints them",
    )  # fmt: skip


def add_predictions(parser: argparse.ArgumentParser) -> None:
    """Declare `--predictions`."""
    parser.add_argument(
        "--predictions", type=Input, required=True, metavar="FILE.jsonl",
        help="completions, as boxrl predict writes them; evaluate also takes a detector's COCO "
        "results (.json)",
    )  # fmt: skip


def add_images(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Declare `--images`, which a verb cannot do without unless something stands in for it.

    Args:
        parser: of the verb.
        otherwise: what is taken without it, for the help.
    """
    parser.add_argument(
        "--images", type=Path, required=not otherwise, metavar="DIR",
        help="folder that the image paths of the samples start from"
        + (f" (default: {otherwise})" if otherwise else ""),
    )  # fmt: skip


def add_shown_images(parser: argparse.ArgumentParser) -> None:
    """Declare `--images` of pages, which show by themselves only images that belong to a run."""
    parser.add_argument(
        "--images", type=Input, metavar="DIR",
        help="images to show where they lie outside of the run and have moved or changed since",
    )  # fmt: skip


def add_seed(parser: Any, of: str) -> None:
    """Declare `--seed`, 0 by default; `of` says what is random."""
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help=f"random seed {of}")


def add_device(parser: Any, dtype: str = "auto") -> None:
    """Declare `--device` and `--dtype`, whose default is `dtype`."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs"
    )
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16"), default=dtype,
        help="precision of the weights; auto: as stored, float32 on a CPU",
    )  # fmt: skip


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Declare `--prompt` and `--family`, where no model decides them."""
    parser.add_argument(
        "--prompt", default="standard", metavar="NAME|FILE.yaml", help="prompt template"
    )
    parser.add_argument("--family", default="plain", metavar="NAME", help=NO_MODEL_FAMILY)


def add_limits(parser: Any) -> None:
    """Declare `--min-pixels` and `--max-pixels`, as `engine_options` reads them."""
    for end, which in (("min", "least"), ("max", "largest")):
        parser.add_argument(
            f"--{end}-pixels", type=integer(1), metavar="N",
            help=f"{which} area of an image as the model sees it (default: the model's own)",
        )  # fmt: skip


def add_thinking(parser: Any) -> None:
    """Declare `--thinking`, as `engine_options` reads it."""
    parser.add_argument(
        "--thinking", choices=("on", "off"),
        help="set the chat template's switch for thinking (default: the template's own choice)",
    )  # fmt: skip


def add_format(parser: Any) -> None:
    """Declare `--format`; `chosen_format` reads it."""
    parser.add_argument(
        "--format", choices=("table", "markdown", "latex", "csv"), default="table",
        help="form of the table on stdout; all but the first are to cite: percent, with n, "
        "intervals and protocol",
    )  # fmt: skip


def chosen_format(args: argparse.Namespace) -> Format | None:
    """The form of a table to cite; None for the terminal's own.

    Raises:
        UsageError: `--json` is asked for too.
    """
    if args.format == "table":
        return None
    if args.json:
        raise UsageError(f"--json and --format {args.format}: choose one")
    form: Format = args.format
    return form


CONFIDENCES = ("constant", "order", "logprob", "written", "verify")
"""Values of `--confidence`: `evaluate.judging.Confidence`, which a parser need not load."""


def add_ranking(parser: Any) -> None:
    """Declare `--confidence` and `--nms`."""
    parser.add_argument(
        "--confidence", choices=CONFIDENCES, default="constant",
        help="confidence of a box for AP: all equal, by emission order, of predict --logprobs, the "
        "score that the answer writes beside it, or of boxrl verify",
    )  # fmt: skip
    parser.add_argument(
        "--nms", type=number(0, 1, open_below=True), metavar="IOU",
        help="of boxes of one label that overlap so much, judge the surest alone; 0.5 is usual",
    )  # fmt: skip


def add_price(parser: Any) -> None:
    """Declare `--price`."""
    parser.add_argument(
        "--price", type=_price, metavar="IN,OUT",
        help="of a million prompt tokens and a million completion tokens, which prices answers",
    )  # fmt: skip


def _price(text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"expected two prices, IN,OUT, got {text!r:.80}")
    before, after = map(number(0), parts)
    return before, after


def add_run_folder(parser: Any) -> None:
    """Declare `--resume` and `--replace`, of verbs that write a run folder."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--resume", action="store_true", help="continue an interrupted run")
    which.add_argument(
        "--replace", action="store_true", help="delete the run that the folder holds, and begin"
    )


def add_overrides(
    parser: argparse.ArgumentParser,
    sets: str = "a key of the recipe, for example train.max_steps=3",
) -> None:
    """Declare `key=value`, and say which keys it sets."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # argparse calls it required otherwise, where anything else is missing
        metavar="key=value",
        help=f"set {sets}",
    )


def read_rewards(names: str) -> list[Reward]:
    """The rewards of `--rewards a,b,c`; modules of the user's own may lie beside the command.

    Raises:
        UsageError: one is unknown, or named twice.
    """
    from boxrl.rewards import build_rewards, look_for_modules

    specs = names.replace(" ", "").split(",")
    look_for_modules(Path.cwd(), specs)
    return build_rewards(specs)


class Input(PosixPath):
    """An argparse type: a file or folder that the call reads; see `refuse_missing`."""


def refuse_missing(args: argparse.Namespace) -> None:
    """Stop where a call names files that are not there: it is wrong, whatever data may be.

    A summary stands for the others, which need not be here yet.

    Raises:
        UsageError: the first such file or folder.
    """
    summary = getattr(args, "summary", None)
    for value in [summary] if summary else vars(args).values():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Input) and not os.path.exists(path):  # noqa: PTH110
                raise UsageError(f"{path}: no such file or folder")  # Path.exists may raise


def integer(lowest: int) -> Callable[[str], int]:
    """An argparse type: an integer of `lowest` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"expected an integer >= {lowest}, got {text!r}")
        return value

    return parse


def number(
    lowest: float, highest: float = math.inf, *, open_below: bool = False
) -> Callable[[str], float]:
    """An argparse type: a finite number from `lowest` (above it, where open) to `highest`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        below = value <= lowest if open_below else value < lowest
        if below or value > highest or not math.isfinite(value):
            end = f" and <= {highest:g}" if math.isfinite(highest) else ""
            raise argparse.ArgumentTypeError(
                f"expected a number {'>' if open_below else '>='} {lowest:g}{end}, got {text!r}"
            )
        return value

    return parse
