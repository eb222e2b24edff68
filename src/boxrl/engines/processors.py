"""Processors from a model folder, with torchvision, without it, and with a broken one.

transformers' own Qwen-VL processors load a video processor, which needs torchvision. The image
path does not: where torchvision is missing, images go through the Pillow image processor of the
same family instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from boxrl.errors import UsageError

_KEPT_ALIVE: list[Any] = []


def repair_torchvision() -> bool:
    """Make a torchvision built for another torch importable; return whether one is there.

    A CUDA wheel beside a CPU torch fails at import because two operator schemas are missing,
    and takes transformers' processing code down with it. Declaring them is enough: boxrl calls
    image transforms, never these operators.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
        return True
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)  # dropping the library would undefine the operators
    importlib.import_module("torchvision")
    return True


HAS_TORCHVISION = repair_torchvision()

from transformers import (  # noqa: E402  (torchvision must be repaired before this import)
    AutoProcessor,
    AutoTokenizer,
    Qwen2_5_VLConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (  # noqa: E402
    Qwen2VLImageProcessorPil,
)
from transformers.processing_utils import ProcessorMixin  # noqa: E402


class ImageTextProcessor(ProcessorMixin):
    """A Qwen-VL processor for images and text that needs no torchvision."""

    # Qwen2.5-VL positions need mm_token_type_ids; without them mrope silently becomes 1-D.
    return_mm_token_type_ids = True

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
    ) -> None:
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(
            image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template
        )

    def replace_image_token(self, image_inputs: Any, image_idx: int, **_: Any) -> str:
        """One placeholder becomes as many as the image has merged patches."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        token: str = self.image_token * (patches // self.image_processor.merge_size**2)
        return token

    @property
    def model_input_names(self) -> list[str]:
        """Every tensor that the model reads."""
        return [*super().model_input_names, "mm_token_type_ids"]


AutoProcessor.register(Qwen2_5_VLConfig, ImageTextProcessor, exist_ok=True)


def load_processor(model_dir: Path) -> Any:
    """The processor of a model folder, padding on the left as generation and TRL need it.

    Raises:
        UsageError: the folder holds no processor that reads images.
    """
    if HAS_TORCHVISION:
        processor = AutoProcessor.from_pretrained(model_dir)
    else:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        images = Qwen2VLImageProcessorPil.from_pretrained(model_dir)
        template = model_dir / "chat_template.jinja"
        processor = ImageTextProcessor(
            images, tokenizer, template.read_text("utf-8") if template.is_file() else None
        )
    if not hasattr(processor, "image_processor"):
        raise UsageError(f"{model_dir}: its processor reads no images; boxrl needs a VLM")
    processor.tokenizer.padding_side = "left"
    return processor
