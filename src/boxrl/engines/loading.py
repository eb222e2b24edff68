"""Models from a folder: the embedded tiny VLM or any vision-language model of transformers."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers.utils import logging as transformers_logging

from boxrl.data.files import is_whole, share_weights
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.engines.seam import replaced
from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.errors import BoxrlError, MissingExtra, UsageError
from boxrl.families import Family
from boxrl.families.folder import ADAPTER, read_config_json, write_limits
from boxrl.generation.model_folders import model_folder

REFUSALS = (
    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What processors raise over an image that they cannot take."""

LARGEST_CHECKED = 1024
"""Longer side of the image by which a processor's limits are checked, in pixels."""


def load(
    model: str | Path,
    dtype: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    quantize: str | None = None,
    family: Family | None = None,
) -> tuple[Any, Any]:
    """Model and processor, on the device, ready to generate or train.

    Args:
        model: packaged name or folder.
        dtype: `auto` (as stored; float32 on a CPU), `float32` or `bfloat16`.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        threads: CPU threads of torch; its own choice by default.
        quantize: `4bit` for QLoRA's base model.
        family: whose pixel limits the processor takes; None leaves the folder's own.

    Raises:
        UsageError: there is no such device, the folder holds no vision-language model, or its
            processor resizes images in another way than the family says.
        MissingExtra: torchvision or bitsandbytes is missing.
    """
    folder = model_folder(str(model))
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"device {device}: torch {torch.__version__} sees no GPU; boxrl doctor env shows what "
            "there is, and device auto takes a CPU where there is none"
        )
    if dtype == "auto" and device == "cpu":
        dtype = "float32"  # bfloat16 on a CPU is slower and coarser
    transformers_logging.disable_progress_bar()
    quantization = _quantization(quantize, device)
    config = read_config(folder)
    with model_errors(folder):
        processor = load_processor(folder, family)
        loaded = read_weights(
            transformers.AutoModelForImageTextToText,
            folder,
            config=config,
            dtype=dtype,
            quantization_config=quantization,
            trust_remote_code=False,
        )
        # What is wrong with their settings shows only when they are used.
        processor.image_processor(Image.new("RGB", (64, 64)), return_tensors="pt")
        processor.tokenizer(["a", "a b"], padding=True)
    if not quantize:
        loaded = loaded.to(device)
    if device == "cpu" and _has_conv_patch_embedding(loaded):
        use_fast_patch_embedding(loaded)
    return loaded, processor


def read_weights(kind: Any, folder: str | Path, **options: Any) -> Any:
    """The model of a folder, every weight of which is the folder's.

    transformers draws those that a folder lacks by chance, and says so in a warning alone.

    Args:
        kind: class of transformers.
        folder: with the weights.
        options: of its `from_pretrained`.

    Raises:
        UsageError: the folder lacks weights, or has them under other names.
    """
    model, found = kind.from_pretrained(folder, output_loading_info=True, **options)
    weights = [name for name, _ in model.named_parameters()]
    missing = [name for name in weights if name in found["missing_keys"]]
    if missing:
        unknown = sorted(found["unexpected_keys"])
        instead = f", and {unknown[0]!r:.80} is" if len(unknown) >= len(missing) else ""
        raise UsageError(
            f"{folder}: {len(missing):,} of the model's {len(weights):,} weights are not in it "
            f"({missing[0]} is not{instead}), and would be drawn by chance; copy it again, or save "
            "the model anew with save_pretrained"
        )
    return model


def load_processor(folder: Path, family: Family | None = None) -> Any:
    """The processor of a model folder, padding on the left as generation and TRL need it.

    Args:
        folder: the model folder.
        family: whose pixel limits it takes; None leaves the folder's own.

    Raises:
        UsageError: the folder holds no processor that reads images, or it resizes them in another
            way than the family says.
        MissingExtra: torchvision is missing.
    """
    if not repair_torchvision():
        raise MissingExtra("preparing images", "train")
    processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if not hasattr(processor, "image_processor"):
        raise UsageError(f"{folder}: its processor reads no images; boxrl needs a VLM")
    if processor.chat_template is None:  # older folders give it to the tokenizer alone
        processor.chat_template = processor.tokenizer.chat_template
    if _states_its_own(folder) and type(processor.tokenizer) is not transformers.TokenizersBackend:
        # transformers takes a class by the model's type (Qwen3.5), which splits texts its own way.
        processor.tokenizer = transformers.TokenizersBackend.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:  # padding is masked, whatever stands there
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    if family is not None and family.has_limits:
        _limit(processor.image_processor, family, folder)
    return processor


def refusal(image_processor: Any, image: Image.Image) -> str | None:
    """What an image processor says against an image; None where it takes it."""
    try:
        image_processor(image, return_tensors="pt")
    except REFUSALS as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _states_its_own(folder: Path) -> bool:
    """Whether the folder's tokenizer is what its tokenizer.json says, and of no class beside it."""
    config = read_config_json(folder / "tokenizer_config.json") or {}
    return config.get("tokenizer_class") == "TokenizersBackend"


def _limit(image_processor: Any, family: Family, folder: Path) -> None:
    """Give an image processor the family's limits and see that it keeps them."""
    image_processor.size = family.processor_size
    side = min(math.isqrt(family.max_pixels) + family.factor, LARGEST_CHECKED)
    for size in ((64, 64), (side, side * 3 // 4)):
        inputs = image_processor(Image.new("RGB", size), return_tensors="pt")
        if "image_grid_thw" in inputs:
            _, rows, columns = (image_processor.patch_size * n for n in inputs["image_grid_thw"][0])
            if (columns, rows) != family.input_size_wh(size):
                raise UsageError(
                    f"{folder}: its image processor shows an image of {size[0]} x {size[1]} pixels "
                    f"as {columns} x {rows}, family {family.name!r} expects "
                    "{} x {}; name another --family".format(*family.input_size_wh(size))
                )


def read_config(folder: Path) -> Any:
    """The config of a vision-language model; how it computes is not the folder's to say.

    Raises:
        UsageError: it is damaged, or that of a model without vision, or of an adapter.
    """
    if (folder / ADAPTER).is_file():  # transformers would load the model that it names
        raise UsageError(
            f"{folder}: holds an adapter ({ADAPTER}); merge it into its base model first: "
            f"boxrl export {folder} --out DIR"
        )
    with model_errors(folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UsageError(
            f"{folder}: model_type {config.model_type!r} is not a vision-language model that "
            "transformers knows; boxrl needs one that reads images, such as Qwen2.5-VL"
        )
    # Both may name a kernel of the hub, which is code; transformers chooses where none is named.
    config._attn_implementation = config._experts_implementation = None
    text_config = config.get_text_config()
    if hasattr(text_config, "output_router_logits"):  # as TRL leaves it: generation fails on it
        text_config.output_router_logits = False
    return config


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer, as in TRL: the model's and, where it is another, the tokenizer's.

    Raises:
        UsageError: the model's generation config names none.
    """
    named = model.generation_config.eos_token_id
    ids = named if isinstance(named, list) else [named]
    if not ids or not all(map(is_whole, ids)):
        raise UsageError(
            f"{model.name_or_path}: eos_token_id is {named!r:.80}; expected the token that ends "
            "an answer, or a list of such, in generation_config.json"
        )
    end = tokenizer.eos_token_id
    return ids if end is None or end in ids else [*ids, end]


@contextmanager
def as_asked(model: Any) -> Iterator[None]:
    """Within the block the model generates as it is asked to, whatever its folder would prefer.

    transformers takes what a call leaves out from the folder's generation_config.json: `min_p`,
    `no_repeat_ngram_size`, a watermark. Of it only the tokens that begin, end and pad stay.

    Args:
        model: unwrapped; where it is saved, it has its own settings again.
    """
    own = model.generation_config
    tokens = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with replaced(model, "generation_config", transformers.GenerationConfig(**tokens)):
        yield


@contextmanager
def model_errors(folder: Path) -> Iterator[None]:
    """Over a damaged folder, the libraries raise anything.

    Raises:
        UsageError: instead, with what they said.
    """
    try:
        yield
    except (BoxrlError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{folder}: not a vision-language model that transformers can load ({said:.300})"
        ) from error


def _quantization(quantize: str | None, device: str) -> Any:
    """QLoRA's own choice: NF4, quantized twice, computed in bfloat16."""
    if quantize is None:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("train.lora.quantize: 4bit", "qlora")
    if device != "cuda":
        raise UsageError(f"quantize: 4bit runs on a CUDA device, got {device}; leave it out")
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _has_conv_patch_embedding(model: Any) -> bool:
    visual = getattr(getattr(model, "model", None), "visual", None)
    projection = getattr(getattr(visual, "patch_embed", None), "proj", None)
    return isinstance(projection, torch.nn.Conv3d)


def save(model: Any, processor: Any, source: Path, folder: Path) -> None:
    """Write a model folder that `load`, transformers and vLLM read.

    Args:
        model: its weights are written as they are.
        processor: written where `source` has no processor files.
        source: folder of the model that it was made from; see `copy_processor`.
        folder: where to; made where it is missing.
    """
    model.save_pretrained(folder)
    share_weights(folder)
    copy_processor(processor, source, folder)


def copy_processor(processor: Any, source: Path, folder: Path) -> None:
    """Copy processor files from the model that it came from, byte for byte.

    A family's own processor class and video settings so survive machines that cannot load them.
    Only the pixel limits are those of the processor, where it was loaded with others.

    Args:
        processor: written by transformers where `source` has none of the files.
        source: folder of that model.
        folder: where to; must be there.
    """
    names = {
        "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
        "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    }  # fmt: skip
    copied = [path for path in source.iterdir() if path.name in names]
    for path in copied:
        (folder / path.name).write_bytes(path.read_bytes())
    if not copied:
        processor.save_pretrained(folder)
    write_limits(folder, dict(getattr(processor.image_processor, "size", None) or {}))


def banned_token_ids(processor: Any, family: Family) -> list[int]:
    """Image and vision tokens, which must never be sampled as text.

    A sampled image placeholder has no image behind it and crashes the next forward pass.
    """
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary[token] for token in family.image_tokens if token in vocabulary)


def quiet() -> None:
    """Keep library chatter that users can do nothing about off the terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings(
            "ignore", category=category, module=r"(transformers|trl|torch|boxrl)\."
        )
