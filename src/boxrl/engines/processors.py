"""Processors from a model folder, with torchvision, without it, and with a broken one.

transformers' own processors of Qwen-VL and InternVL load a video processor, which needs
torchvision. The image path does not: where torchvision is missing, images go through the Pillow
image processor of the same architecture instead. Other architectures are refused there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoConfig, AutoProcessor, AutoTokenizer, Qwen2_5_VLConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from boxrl.engines import HAS_TORCHVISION
from boxrl.errors import UsageError
from boxrl.families.qwen import QWEN2_5_VL


class ImageTextProcessor(ProcessorMixin):
    """A Qwen-VL processor for images and text that needs no torchvision."""

    # Qwen2.5-VL positions need mm_token_type_ids; without them mrope silently becomes 1-D.
    return_mm_token_type_ids = True

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
    ) -> None:
        self.image_token = QWEN2_5_VL.image_token
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


class TileProcessor(ImageTextProcessor):
    """InternVL's: an image is cut into tiles of equally many tokens.

    Law: the inputs of transformers' InternVLProcessor, to the rounding of Pillow's resampling.

    Attributes:
        image_seq_length: tokens of a tile.
    """

    return_mm_token_type_ids = False
    images_kwargs: ClassVar = {"crop_to_patches": True}

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        image_seq_length: int = 256,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template)
        self.image_seq_length = image_seq_length
        self.image_token = tokenizer.context_image_token
        self.image_token_id = tokenizer.context_image_token_id

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Without the counts of tiles, which the model does not take."""
        inputs = super().__call__(*args, **kwargs)
        inputs.pop("num_patches", None)
        return inputs

    def replace_image_token(self, image_inputs: Any, image_idx: int, **_: Any) -> str:
        """One placeholder becomes the tokens of every tile, between those of the whole image."""
        tokens = self.image_seq_length * int(image_inputs["num_patches"][image_idx])
        start, end = self.tokenizer.start_image_token, self.tokenizer.end_image_token
        return f"{start}{self.image_token * tokens}{end}"

    @property
    def model_input_names(self) -> list[str]:
        """Every tensor that the model reads."""
        return [*self.tokenizer.model_input_names, "pixel_values"]


AutoProcessor.register(Qwen2_5_VLConfig, ImageTextProcessor, exist_ok=True)


WITHOUT_TORCHVISION = {
    "qwen2_vl": (Qwen2VLImageProcessorPil, ImageTextProcessor),
    "qwen2_5_vl": (Qwen2VLImageProcessorPil, ImageTextProcessor),
    "qwen3_vl": (Qwen2VLImageProcessorPil, ImageTextProcessor),
    "qwen3_vl_moe": (Qwen2VLImageProcessorPil, ImageTextProcessor),
    "internvl": (GotOcr2ImageProcessorPil, TileProcessor),
}
"""`model_type` -> image processor and processor where torchvision is missing."""


def load_processor(model_dir: Path) -> Any:
    """The processor of a model folder, padding on the left as generation and TRL need it.

    Raises:
        UsageError: the folder holds no processor that reads images, or it needs torchvision.
    """
    if HAS_TORCHVISION:
        processor = AutoProcessor.from_pretrained(model_dir, trust_remote_code=False)
    else:
        processor = _load_without_torchvision(model_dir)
    if not hasattr(processor, "image_processor"):
        raise UsageError(f"{model_dir}: its processor reads no images; boxrl needs a VLM")
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:  # padding is masked, whatever stands there
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _load_without_torchvision(model_dir: Path) -> Any:
    kind = AutoConfig.from_pretrained(model_dir, trust_remote_code=False).model_type
    if kind not in WITHOUT_TORCHVISION:
        raise UsageError(
            f"{model_dir}: images of model_type {kind!r} are prepared with torchvision, which is "
            f"missing; run: pip install torchvision (without it: {', '.join(WITHOUT_TORCHVISION)})"
        )
    image_processor, processor = WITHOUT_TORCHVISION[kind]
    template, own = model_dir / "chat_template.jinja", model_dir / "processor_config.json"
    settings = json.loads(own.read_text("utf-8")) if own.is_file() else {}
    return processor(
        image_processor.from_pretrained(model_dir),
        AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False),
        template.read_text("utf-8") if template.is_file() else None,
        **{key: settings[key] for key in ("image_seq_length",) if key in settings},
    )
