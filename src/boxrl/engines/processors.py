"""Processors from a model folder, with torchvision, without it, and with a broken one.

transformers' own Qwen-VL processors load a video processor, which needs torchvision. The image
path does not: where torchvision is missing, images go through the Pillow image processor of the
same family instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from boxrl.engines import HAS_TORCHVISION
from boxrl.errors import UsageError


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
        processor = AutoProcessor.from_pretrained(model_dir, trust_remote_code=False)
    else:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
        images = Qwen2VLImageProcessorPil.from_pretrained(model_dir)
        template = model_dir / "chat_template.jinja"
        processor = ImageTextProcessor(
            images, tokenizer, template.read_text("utf-8") if template.is_file() else None
        )
    if not hasattr(processor, "image_processor"):
        raise UsageError(f"{model_dir}: its processor reads no images; boxrl needs a VLM")
    processor.tokenizer.padding_side = "left"
    return processor
