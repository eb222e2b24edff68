"""`boxrl predict`: one completion per sample, or several; resumable."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import (
    MODEL_FAMILY,
    add_device,
    add_images,
    add_limits,
    add_samples,
    add_seed,
    add_thinking,
    integer,
    number,
)
from boxrl.cli.parser import add_command
from boxrl.engines.build import ENGINES, EngineOptions, parse_extra_body
from boxrl.guard.outputs import check_outputs

if TYPE_CHECKING:
    from boxrl.engines.answers import AnswerOptions

CONTROLS = ("shuffled_labels", "absent_labels", "blank_image")


def add_verb(verbs: Any) -> None:
    """Declare `boxrl predict`."""
    verb = add_command(
        verbs, "predict", "generate one completion per sample; resumable",
        example="boxrl predict --samples val.jsonl --images images/ "
        "--model models/Qwen2.5-VL-3B-Instruct --out runs/val/predictions.jsonl",
    )  # fmt: skip
    add_samples(verb)
    add_images(verb)
    verb.add_argument(
        "--model",
        required=True,
        help="model folder, id of the hub, tiny, tiny-taught, or a server's model name",
    )
    verb.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl",
        help="predictions file; rerun the same command to continue",
    )  # fmt: skip
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    add_limits(verb)
    add_thinking(verb)
    verb.add_argument("--limit", type=integer(1), metavar="N", help="only the first N samples")
    add_answer_options(verb)
    verb.set_defaults(run=run_predict)


def add_answer_options(parser: Any) -> None:
    """Options of answering, whatever the samples are; `answer_options` reads them."""
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), default="transformers", help="what runs the model"
    )
    parser.add_argument(
        "--prompt", default="standard", metavar="NAME|FILE.yaml", help="prompt template"
    )
    parser.add_argument(
        "--control", choices=CONTROLS, help="ablate the labels or the image, to measure a baseline"
    )
    _add_sampling(parser.add_argument_group("sampling"))
    local = parser.add_argument_group("transformers and vllm")
    sizes = (ENGINES[name].batch_size for name in ("transformers", "vllm"))
    local.add_argument(
        "--batch-size", type=integer(1), metavar="N",
        help="completions at once (default: {}, with vllm {})".format(*sizes),
    )  # fmt: skip
    add_device(local)
    local.add_argument(
        "--engine-arg", action="append", default=[], metavar="key=value",
        help="passed to vLLM's LLM(), for example tensor_parallel_size=2; repeatable",
    )  # fmt: skip
    add_endpoint(parser.add_argument_group("openai: any OpenAI-compatible server"))


def _add_sampling(group: Any) -> None:
    group.add_argument(
        "--temperature", type=number(0), default=0.0, metavar="T",
        help="sampling temperature; 0 is greedy",
    )  # fmt: skip
    group.add_argument(
        "--top-p", type=number(0, 1, open_below=True), default=1.0, metavar="P",
        help="nucleus sampling: only the likeliest tokens that sum to P",
    )  # fmt: skip
    group.add_argument(
        "--max-new-tokens", type=integer(1), default=1024, metavar="N",
        help="longest completion, in tokens",
    )  # fmt: skip
    add_seed(group, "of sampling and of --control")
    group.add_argument(
        "--n", type=integer(1), default=1, metavar="N", help="completions per sample"
    )
    group.add_argument(
        "--logprobs",
        action="store_true",
        help="write box_logprobs, for evaluate --confidence logprob",
    )


def add_endpoint(group: Any) -> None:
    """Options of servers, as `engine_options` reads them."""
    group.add_argument(
        "--base-url", action="append", default=[], metavar="URL",
        help="for example http://127.0.0.1:8000/v1; repeatable, the servers share the work",
    )  # fmt: skip
    group.add_argument(
        "--served-model-name", metavar="NAME",
        help="name by which the server knows the model (default: --model)",
    )  # fmt: skip
    group.add_argument(
        "--api-key-env", default="OPENAI_API_KEY", metavar="VARIABLE",
        help="environment variable that holds the API key",
    )  # fmt: skip
    group.add_argument(
        "--concurrency", type=integer(1), default=16, metavar="N",
        help="concurrent requests per server",
    )  # fmt: skip
    group.add_argument(
        "--timeout", type=number(0, open_below=True), default=600.0, metavar="SECONDS",
        help="time limit of one request",
    )  # fmt: skip
    group.add_argument(
        "--extra-body", metavar="JSON", help="merged into every request; null removes a key"
    )
    group.add_argument(
        "--max-request-mb", type=number(0, open_below=True), default=20.0, metavar="MB",
        help="larger requests are not sent; their rows end in error",
    )  # fmt: skip


def run_predict(args: argparse.Namespace) -> int:
    """Answer every sample of a file; exit status 1 where some ended in error."""
    from boxrl.data.samples import read_samples
    from boxrl.engines.answers import answer_samples
    from boxrl.guard.texts import visible

    if not args.out.is_dir():
        check_outputs([(args.out, "predictions")], [args.samples])
    samples = read_samples(args.samples)[: args.limit]
    options = answer_options(args, args)
    answered = answer_samples(options, samples, args.samples, args.images, args.out)
    print(f"family: {answered.family.name}")
    print(f"predictions: {args.out}")
    if answered.failed:
        print(visible(answered.failure), file=sys.stderr)
    return 1 if answered.failed else 0


def answer_options(args: argparse.Namespace, named: argparse.Namespace) -> AnswerOptions:
    """What a call says about a model and how it is asked.

    Args:
        args: options of `add_answer_options`.
        named: `model`, `family` and those of `add_limits` and `add_thinking`.
    """
    from boxrl.engines.answers import AnswerOptions
    from boxrl.generation.predict import Sampling

    return AnswerOptions(
        engine=engine_options(args, named, args.engine),
        sampling=Sampling(
            temperature=args.temperature,
            top_p=args.top_p,
            max_new_tokens=args.max_new_tokens,
            seed=args.seed,
            batch_size=args.batch_size or ENGINES[args.engine].batch_size,
            n=args.n,
            logprobs=args.logprobs,
        ),
        prompt=args.prompt,
        control=args.control,
    )


def engine_options(
    args: argparse.Namespace, named: argparse.Namespace, engine: str
) -> EngineOptions:
    """What a call says about a model and what runs it.

    Args:
        args: options of `add_device` and `add_endpoint`.
        named: `model`, `family` and those of `add_limits`.
        engine: key of ENGINES.
    """
    return EngineOptions(
        named.model,
        engine,
        named.family,
        named.min_pixels,
        named.max_pixels,
        None if named.thinking is None else named.thinking == "on",
        device=args.device,
        dtype=args.dtype,
        engine_args=getattr(args, "engine_arg", ()),
        base_urls=args.base_url,
        served_model_name=args.served_model_name,
        api_key_env=args.api_key_env,
        concurrency=args.concurrency,
        timeout_s=args.timeout,
        extra_body=parse_extra_body(args.extra_body),
        max_request_mb=args.max_request_mb,
    )
