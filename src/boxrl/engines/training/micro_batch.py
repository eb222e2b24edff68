"""The forward and backward pass of a micro-batch, run hollow: what memory and work it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.trainer_pt_utils import LabelSmoother
from trl.trainer.utils import add_fused_lm_head

from boxrl.config import Recipe
from boxrl.engines.prefix.images import join_images
from boxrl.engines.prefix.kv_cache import cache_argument
from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.shared_prefix import enable, log_probs, unwrap
from boxrl.engines.training.frozen_tower import run_frozen
from boxrl.engines.training.grpo import build_lora
from boxrl.engines.training.hollow import hollow_gpu, run_backward
from boxrl.engines.training.load import Load
from boxrl.families import Family

TEXT = 20
"""Any token that is no image."""


class Work(NamedTuple):
    """What a micro-batch takes, forwards and backwards.

    Attributes:
        peak: the most bytes that are held at once, weights and gradients included.
        flops: recomputation included.
        kernels: launched.
    """

    peak: int
    flops: float
    kernels: int


class Counted(NamedTuple):
    """A prepared model in figures.

    Attributes:
        parameters: numbers of the model, adapters aside.
        weights: bytes of all weights, adapters included.
        gradients: bytes of all gradients.
        trained: numbers that are trained, by precision.
        linear: bytes of the base's matrices, which QLoRA keeps in 4 bits.
        largest: bytes of the largest of them.
    """

    parameters: int
    weights: int
    gradients: int
    trained: dict[torch.dtype, int]
    linear: int
    largest: int


def prepare(model: Any, recipe: Recipe, family: Family, *, shared: bool) -> Any:
    """The model as a trainer prepares it: frozen parts, head, adapters, checkpointing.

    Args:
        model: on `meta`; it is changed.
        recipe: what is trained, and how.
        family: names the vision tower.
        shared: whether prompts are run once per group.
    """
    train = recipe.train
    if train.freeze_vision:
        run_frozen(model, family.vision_module)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    lora, prepared = build_lora(recipe, family), model
    if lora is not None:
        from peft import get_peft_model

        prepared = get_peft_model(model, lora)
        if train.lora is not None and train.lora.quantize:
            for parameter in prepared.parameters():
                if parameter.requires_grad:  # as TRL has them where the base is quantized
                    parameter.data = parameter.data.to(torch.bfloat16)
    if checkpoints(recipe):
        options = train.trl.get("gradient_checkpointing_kwargs") or {"use_reentrant": False}
        model.gradient_checkpointing_enable(options)
        if lora is not None:
            prepared.enable_input_require_grads()
    if shared:
        enable(model, recipe.engine.attention)
    return prepared.train()


def checkpoints(recipe: Recipe) -> bool:
    """Whether activations are computed again in the backward pass."""
    options = recipe.train.trl
    default = options.get("activation_checkpointing", recipe.engine.device != "cpu")
    return bool(options.get("gradient_checkpointing", default))


def count(prepared: Any) -> Counted:
    """The figures of a model that `prepare` has prepared."""
    trained: Counter[torch.dtype] = Counter()
    weights = gradients = parameters = 0
    for name, parameter in prepared.named_parameters():
        weights += parameter.nbytes
        parameters += 0 if ".lora_" in name else parameter.numel()
        if parameter.requires_grad:
            trained[parameter.dtype] += parameter.numel()
            gradients += parameter.nbytes
    matrices = [
        module.weight.nbytes
        for name, module in unwrap(prepared).named_modules()
        if type(module) is torch.nn.Linear and ".lora_" not in name and "lm_head" not in name
    ]
    return Counted(parameters, weights, gradients, dict(trained), sum(matrices), max(matrices))


def measure(
    prepared: Any, load: Load, rows: Rows, *, half: bool, again: bool, keep_gradients: bool,
    smoothing: float = 0.0,
) -> Work:  # fmt: skip
    """Run a micro-batch, forwards and backwards.

    Args:
        prepared: of `prepare`.
        load: how many rows make a group, and whether its prompt is shared.
        rows: of `build_rows`.
        half: whether autocast to bfloat16 is on.
        again: gradients of a micro-batch before are there.
        keep_gradients: False where each is handed on as soon as it is known.
        smoothing: of the labels, which takes the logits of all tokens.
    """
    parameters = [p for p in prepared.parameters() if p.requires_grad]
    with hollow_gpu(half) as (gpu, autocast):
        gpu.hold_all([*prepared.parameters(), *prepared.buffers()])
        for parameter in parameters:
            if not keep_gradients:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
            elif again:
                parameter.grad = torch.zeros_like(parameter)
        gpu.hold_all(rows.images)
        gpu.peak = gpu.bytes
        loss = _loss(prepared, rows, load, smoothing)
        autocast.end_forward()
        run_backward(loss)
    return Work(gpu.peak, gpu.flops, gpu.kernels)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def measure_prefill(model: Any, load: Load, prompts: int, *, half: bool) -> int:
    """Bytes that it takes to read the prompts of a generation, above the weights and images.

    Args:
        model: on `meta`, as it was built.
        load: lengths; where prompts are not shared, each is read for every completion.
        prompts: that are read at once.
        half: whether autocast to bfloat16 is on.
    """
    read = prompts if load.shared else prompts * load.group
    rows = build_rows(model.config, replace(load, groups=read, group=1))
    ids = rows.prompt_ids
    cache = DynamicCache(config=model.config.get_text_config())
    held = {cache_argument(type(model).forward) or "past_key_values": cache}
    with torch.no_grad(), hollow_gpu(half) as (gpu, _):
        gpu.hold_all([*model.parameters(), *model.buffers(), rows.images])
        gpu.peak = before = gpu.bytes
        model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True,
            logits_to_keep=1, **held, **_image_inputs(model, rows, 0),
        )  # fmt: skip
    return gpu.peak - before


def build_rows(config: Any, load: Load, lengths: Sequence[int] = (), per_image: int = 1) -> Rows:
    """Rows of the load: an image without numbers, and completions that have nothing in common.

    Args:
        config: of the model.
        load: how many rows, and how long.
        lengths: of the completions of a group where they are not all the longest.
        per_image: prompts behind each other that show one image and then differ.
    """
    count = load.groups * load.group
    prompt = torch.full((count, load.prompt), TEXT)
    if (start := getattr(config, "vision_start_token_id", None)) is not None:
        prompt[:, 0] = start
    prompt[:, 1 : load.image + 1] = config.image_token_id
    completion = torch.full((count, load.completion), TEXT)
    completion[:, 0] += torch.arange(count) % load.group
    mask = torch.ones_like(completion)
    for row, length in zip(range(count), cycle(lengths), strict=False):
        mask[row, length:] = 0
    images: list[dict[str, Tensor] | None] = []
    for row in range(count):
        first = row % load.group == 0 or not load.shared
        number = row // load.group % per_image
        prompt[row, load.image + 1 :] += number
        again = number > 0 and load.shared
        shown = images[row - load.group] if again else _build_image(config, load)
        images.append(shown if first else None)
    return Rows(
        prompt, torch.ones_like(prompt), completion, mask,
        (prompt == config.image_token_id).long(), images,
    )  # fmt: skip


def _build_image(config: Any, load: Load) -> dict[str, Tensor]:
    """The model's inputs for one image; pixels are float32, as processors make them."""
    vision = config.vision_config
    if load.grid is not None:
        rows, columns = load.grid
        pixels = torch.empty(rows * columns, _patch_values(vision), device="meta")
        return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, rows, columns]])}
    size, patch = (
        x if isinstance(x, int) else x[0] for x in (vision.image_size, vision.patch_size)
    )
    tile = getattr(config, "mm_tokens_per_image", load.image)
    if hasattr(config, "downsample_ratio"):
        tile = int((size // patch * config.downsample_ratio) ** 2)
    tiles = max(load.image // tile, 1)
    return {"pixel_values": torch.empty(tiles, 3, size, size, device="meta")}


def image_bytes(config: Any, load: Load) -> int:
    """Bytes of the pixels of one prompt: of one image, or of one for every completion.

    Args:
        config: of the model.
        load: the image's size, and whether prompts are shared.
    """
    pixels = _build_image(config, load)["pixel_values"].nbytes
    return pixels * (1 if load.shared else load.group)


def _patch_values(vision: Any) -> int:
    """Numbers of one patch of an image."""
    side = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    values: int = getattr(vision, "in_channels", 3) * vision.temporal_patch_size * side**2
    return values


def _loss(prepared: Any, rows: Rows, load: Load, smoothing: float) -> Tensor:
    """A loss, by the path that the trainer takes."""
    if load.shared:
        groups = torch.arange(load.groups * load.group).view(load.groups, -1).tolist()
        return log_probs(prepared, rows, groups)[0].sum()
    ids = torch.cat([rows.prompt_ids, rows.completion_ids], 1)
    mask = torch.cat([rows.prompt_mask, rows.completion_mask], 1)
    scored = rows.completion_ids.masked_fill(rows.completion_mask == 0, -100)
    labels = torch.cat([torch.full_like(rows.prompt_ids, -100), scored], 1)
    inputs = _image_inputs(unwrap(prepared), rows, load.completion)
    inputs |= {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if smoothing:
        smoothed: Tensor = LabelSmoother(smoothing)(prepared(**inputs), labels, shift_labels=True)
        return smoothed
    total: Tensor = prepared(labels=labels, fused_lm_head=True, **inputs).log_probs.sum()
    return total


def _image_inputs(model: Any, rows: Rows, more: int) -> dict[str, Any]:
    """The model's inputs for the images of all rows, with `more` tokens of text behind each."""
    inputs: dict[str, Any] = join_images(rows.images)
    assert rows.types is not None
    types = torch.cat([rows.types, rows.types.new_zeros(len(rows.types), more)], 1)
    if hasattr(model.model, "get_rope_index"):
        inputs["mm_token_type_ids"] = types
    elif "token_type_ids" in model.forward.__code__.co_varnames:
        inputs["token_type_ids"] = types
    return inputs
