"""`boxrl predict`: one completion per sample, or several; resumable."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import (
    MODEL_FAMILY,
    add_device,
    add_images,
    add_samples,
    add_seed,
    integer,
    number,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra

if TYPE_CHECKING:
    from boxrl.families import Family
    from boxrl.generation.predict import Engine
    from boxrl.prompts import Prompt

CONTROLS = ("shuffled_labels", "absent_labels", "blank_image")
BATCH_SIZES = {"transformers": 32, "vllm": 1024, "openai": 1}


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
        "--model", required=True, help="model folder, tiny, tiny-taught, or a server's model name"
    )
    verb.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl",
        help="predictions file; the same command again generates what is missing",
    )  # fmt: skip
    verb.add_argument(
        "--engine", choices=tuple(BATCH_SIZES), default="transformers", help="what runs the model"
    )
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    verb.add_argument(
        "--prompt", default="standard", metavar="NAME|FILE.yaml", help="prompt template"
    )
    verb.add_argument(
        "--control", choices=CONTROLS, help="ablate the labels or the image, to measure a baseline"
    )
    verb.add_argument("--limit", type=integer(1), metavar="N", help="only the first N samples")
    _add_sampling(verb.add_argument_group("sampling"))
    local = verb.add_argument_group("transformers and vllm")
    local.add_argument(
        "--batch-size", type=integer(1), metavar="N",
        help="completions at once "
        f"(default: {BATCH_SIZES['transformers']}, with vllm {BATCH_SIZES['vllm']})",
    )  # fmt: skip
    add_device(local)
    local.add_argument(
        "--engine-arg", action="append", default=[], metavar="key=value",
        help="passed to vLLM's LLM(), for example tensor_parallel_size=2; repeatable",
    )  # fmt: skip
    add_endpoint(verb.add_argument_group("openai: any OpenAI-compatible server"))
    verb.set_defaults(run=run_predict)


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
    """Options of servers, as `BUILD_ENGINE["openai"]` reads them."""
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


def run_predict(args: argparse.Namespace) -> int:
    """Answer every sample of a file; exit status 1 where some ended in error."""
    from boxrl.data.controls import take_away
    from boxrl.data.samples import read_samples
    from boxrl.generation.predict import predict
    from boxrl.prompts import build_prompt

    sampling = _sampling(args)
    prompt = build_prompt(args.prompt)
    samples = read_samples(args.samples)[: args.limit]
    if args.control:
        samples = take_away(samples, args.control, args.seed)
    if not args.images.is_dir():
        raise UsageError(f"--images: no folder {args.images}")
    if args.out.is_dir():
        raise UsageError(f"--out: {args.out} is a folder; take {args.out / 'predictions.jsonl'}")
    facts = {
        "model": args.model,
        "engine": args.engine,
        "samples": str(args.samples),
        "images": str(args.images),
        "control": args.control,
        "extra_body": _extra_body(args),
        "engine_args": args.engine_arg,
    }
    family = find_family(args)
    engine = BUILD_ENGINE[args.engine](args, family, prompt)
    failed = predict(engine, samples, args.out, sampling, facts)
    print(f"family: {family.name}")
    print(f"predictions: {args.out}")
    if failed:
        print(
            f"{len(failed)} completions ended in error, for example {failed[0].id!r}: "
            f"{failed[0].error}; rerun the same command to retry them",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _sampling(args: argparse.Namespace) -> Any:
    from boxrl.generation.predict import Sampling

    if args.n > 1 and args.temperature <= 0:
        raise UsageError(f"--n {args.n} greedy completions are all the same; add --temperature 1")
    return Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        batch_size=args.batch_size or BATCH_SIZES[args.engine],
        n=args.n,
        logprobs=args.logprobs,
    )


def find_family(args: argparse.Namespace) -> Family:
    """The family of the model folder; of a server whose model is no folder here, the named one."""
    from boxrl.families import build_family, read_family
    from boxrl.generation.model_folders import PACKAGED, model_folder

    is_folder = args.model in PACKAGED or Path(args.model).is_dir()
    if args.engine != "openai" or is_folder:
        return read_family(model_folder(args.model), args.family)
    if args.family is None:
        raise UsageError(
            f"--model {args.model} is not a folder here, so its family, and with it the frame of "
            "its boxes, is unknown; name it with --family, or give the model's folder as --model "
            "and the server's name for it as --served-model-name"
        )
    return build_family(args.family)


def _extra_body(args: argparse.Namespace) -> dict[str, Any]:
    try:
        body = json.loads(args.extra_body or "{}")
    except ValueError as error:
        raise UsageError(f"--extra-body: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise UsageError(f"--extra-body: expected a JSON object, got {args.extra_body:.80}")
    return body


def _build_transformers(args: argparse.Namespace, family: Family, prompt: Prompt) -> Engine:
    require_train_extra("boxrl predict")
    from boxrl.engines.generate import Generator
    from boxrl.engines.loading import load, quiet

    quiet()
    model, processor = load(args.model, args.dtype, args.device)
    return Generator(model, processor, family, prompt, args.images, args.control)


def _build_vllm(args: argparse.Namespace, family: Family, prompt: Prompt) -> Engine:
    from boxrl.generation.model_folders import model_folder
    from boxrl.generation.questions import Questions
    from boxrl.generation.vllm_offline import OfflineVllm

    questions = Questions(family, prompt, args.images, args.control)
    options = {"dtype": args.dtype} | dict(_engine_arg(text) for text in args.engine_arg)
    return OfflineVllm(model_folder(args.model), questions, options)


def _engine_arg(text: str) -> tuple[str, Any]:
    """`key=value`, the value as YAML reads it."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UsageError(f"--engine-arg: expected key=value, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--engine-arg: {text!r:.80} holds no YAML behind the =") from error


def _build_openai(args: argparse.Namespace, family: Family, prompt: Prompt) -> Engine:
    from boxrl.generation.endpoint import Endpoint
    from boxrl.generation.model_folders import PACKAGED, image_token_ids
    from boxrl.generation.questions import Questions
    from boxrl.generation.servers import Servers

    if not args.base_url:
        raise UsageError("--engine openai needs --base-url, for example http://127.0.0.1:8000/v1")
    folder = PACKAGED.get(args.model, Path(args.model))
    return Endpoint(
        Questions(family, prompt, args.images, args.control),
        Servers(
            args.base_url,
            api_key=os.environ.get(args.api_key_env),
            concurrency=args.concurrency,
            timeout_s=args.timeout,
        ),
        model=args.served_model_name or args.model,
        banned=image_token_ids(folder, family),
        knows_size=folder.is_dir(),
        extra_body=_extra_body(args),
    )


BUILD_ENGINE = {
    "transformers": _build_transformers,
    "vllm": _build_vllm,
    "openai": _build_openai,
}
