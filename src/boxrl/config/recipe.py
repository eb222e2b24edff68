"""What a recipe says: its sections, their keys, ranges and what must fit together.

TRL's options are not mirrored: `train.trl: {...}` goes verbatim to GRPOConfig or SFTConfig.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from boxrl.data.files import is_number
from boxrl.data.synthetic import check_worlds
from boxrl.errors import UsageError
from boxrl.families import build_family
from boxrl.families.limits import refuse_limits
from boxrl.prompts import build_prompt
from boxrl.rewards import ASKING, Reward, build_reward
from boxrl.types import SEEDS, TEMPERATURES

TINY_MODEL = "tiny"
"""`model:` value that names the under-trained VLM inside the package."""

PACKAGED_MODELS = (TINY_MODEL, "tiny-taught")
"""Models inside the package by name."""


DRAWN = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_new_tokens": "max_completion_length",
    "max_tokens": "max_completion_length",
}
"""What transformers and vLLM call options of drawing -> the recipe's key under `train`."""

NOT_IN_TRL = {
    "chat_template_kwargs": "hold for training alone; use the recipe's key thinking",
    "chat_template_path": (
        "hold for training alone, and the trained model be asked by its folder's template; put "
        "this one there, as chat_template.jinja"
    ),
    "output_dir": "hide the checkpoints from --resume; use the recipe's key out",
}
"""TRL's options that something else has to decide -> what they would do, and the way out."""

MOST_WEIGHT = 1_000_000
"""Largest weight of a reward; sums in float32 lose all others beside a larger one."""


def _refusing(check: Any) -> Any:
    """The check as pydantic takes it: the value itself, or a ValueError."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return value

    return validate


def _checked(check: Any) -> AfterValidator:
    return AfterValidator(_refusing(check))


WorldChoice = Annotated[str | dict[str, float], BeforeValidator(_refusing(check_worlds))]
"""A world or a mixture; checked before the union, which would report a mistake once per type."""


def is_hub_id(model: str) -> bool:
    """Whether a model's name is OWNER/NAME of the hub: no folder OWNER lies here.

    Args:
        model: as the user names it.
    """
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", model) is None:
        return False
    return not Path(model).parent.is_dir()


def default_out(name: str | None, method: str | None) -> Path:
    """The run folder of a recipe that names none."""
    return Path("runs") / f"{name}-{method}"


class Section(BaseModel):
    """A part of a recipe; unknown keys, and numbers that are none, are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`save_steps: true` would be every single step."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        takes = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and bool not in takes and {int, float} & set(takes):
            raise ValueError(f"expected a number, got {str(value).lower()}")
        return value


class Synthetic(Section):
    """Synthetic scenes instead of files; see `boxrl.data.synthetic.WORLDS`."""

    train: int = Field(2000, ge=1, description="training scenes")
    test: int = Field(300, ge=1, description="held-out scenes")
    p_absent: float = Field(0.3, ge=0, le=1, description="share of scenes without an asked object")
    world: WorldChoice = Field(
        "standard", description="name of a world, or {name: share of the scenes}"
    )


class Data(Section):
    """What is trained on: samples files with their images, or synthetic scenes."""

    train: Path | None = Field(None, description="samples JSONL")
    test: Path | None = Field(None, description="samples JSONL, held out")
    images: Path | None = Field(None, description="folder that the samples' image paths start at")
    synthetic: Synthetic | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if (self.train is None) == (self.synthetic is None):
            raise ValueError("name either data.train or data.synthetic")
        if self.train is not None and self.images is None:
            raise ValueError("data.train needs data.images, the folder of its images")
        return self


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning; the names are peft's."""

    r: int = Field(64, ge=1)
    alpha: int = Field(128, ge=1, le=1_000_000)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"
    quantize: Literal["4bit"] | None = Field(
        None, description="QLoRA: the base model in 4 bits, by bitsandbytes"
    )


class Train(Section):
    """How it is trained; what is not here is TRL's and stands under `trl`."""

    max_steps: int = Field(200, ge=1, description="optimizer steps")
    learning_rate: float = Field(1e-6, gt=0, le=1)
    prompts_per_step: int = Field(8, ge=1, description="prompts of one optimizer step")
    num_generations: int = Field(8, ge=2, description="completions per prompt (GRPO)")
    micro_batch_prompts: int | None = Field(None, ge=1, description="prompts per forward pass")
    prompts_per_image: int = Field(
        1, ge=1, description="prompts of one image that stand together and share it, at most"
    )
    max_completion_length: int = Field(1024, ge=1, description="tokens")
    temperature: float = Field(
        1.0, ge=TEMPERATURES[0], le=TEMPERATURES[1], description="of sampling (GRPO)"
    )
    top_p: float = Field(1.0, gt=0, le=1)
    beta: float = Field(0.0, ge=0, le=1000, description="weight of the KL penalty (GRPO)")
    freeze_vision: bool = False
    vision_learning_rate: float | None = Field(
        None, gt=0, le=1, description="of the vision tower; learning_rate where it is not named"
    )
    lora: Lora | None = None
    save_steps: int = Field(50, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    average_last: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the steps, the last ones, whose mean weights are "
        "written to OUT/average beside OUT/model",
    )
    validate_samples: int | None = Field(
        None, ge=1, description="first samples of data.test scored at checkpoints; best one kept"
    )
    trl: dict[str, Any] = Field(default_factory=dict, description="verbatim to TRL's config")

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Train:
        if self.micro_batch_prompts and self.prompts_per_step % self.micro_batch_prompts:
            raise ValueError("prompts_per_step must be a multiple of micro_batch_prompts")
        most = self.micro_batch_prompts or self.prompts_per_step
        if self.prompts_per_image > most:
            raise ValueError(
                f"prompts_per_image is {self.prompts_per_image}; expected at most the {most} "
                "prompts of a micro-batch (micro_batch_prompts), which they stand in together"
            )
        return self

    @model_validator(mode="after")
    def _each_key_once(self) -> Train:
        for name in self.trl:
            if name in Train.model_fields:
                raise ValueError(f"trl.{name} is a key of the recipe's own: train.{name}")
        drawn = self.trl.get("generation_kwargs")
        for name, own in DRAWN.items():
            if isinstance(drawn, dict) and name in drawn:
                raise ValueError(
                    f"trl.generation_kwargs.{name} would hold for drawing completions and not for "
                    f"learning from them; use the recipe's key train.{own}"
                )
        if "num_train_epochs" in self.trl:
            raise ValueError(
                "trl.num_train_epochs would change nothing, for max_steps decides: epochs x "
                "samples / prompts_per_step are as many"
            )
        return self

    @model_validator(mode="after")
    def _numbers_in_trl(self) -> Train:
        for name, value in self.trl.items():
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"trl.{name} is {value}, which is no number")
        return self

    @model_validator(mode="after")
    def _checkpoints_by_steps(self) -> Train:
        strategy = self.trl.get("save_strategy") or "no"
        if strategy not in ("steps", "no") and (self.validate_samples or self.average_last):
            raise ValueError(
                f"trl.save_strategy={strategy} writes checkpoints that validate_samples does not "
                "score and that average_last's mean is not in; use save_steps"
            )
        return self

    @model_validator(mode="after")
    def _whole_weights_to_average(self) -> Train:
        if self.average_last and self.lora:
            raise ValueError("average_last is of whole weights, which lora does not train")
        return self

    @model_validator(mode="after")
    def _vision_trained_or_frozen(self) -> Train:
        if self.freeze_vision and self.vision_learning_rate:
            raise ValueError("name either freeze_vision or vision_learning_rate")
        return self


class EngineSettings(Section):
    """How the model is run."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; the machine's by default"
    )
    shared_prefix: bool | Literal["if_exact"] = Field(
        True,
        description="run a group's prompt once (GRPO), pack samples and share their images (SFT); "
        "the first micro-batch is compared with TRL's path, and a difference stops the run, or "
        "with if_exact takes that path",
    )
    attention: Literal["auto", "sdpa", "varlen", "flex"] = Field(
        "auto",
        description="of a shared prompt and of image windows: auto takes torch's variable-length "
        "kernel where a GPU computes in half precision, else SDPA; flex compiles a kernel",
    )


@dataclass(frozen=True, slots=True)
class WeightedReward:
    """An entry of a recipe's `rewards`: a name, or `{name: ..., weight: ..., **settings}`.

    Attributes:
        reward: what is computed.
        weight: its factor in the sum.
        written: the entry as the recipe writes it.
    """

    reward: Reward
    weight: float
    written: str | dict[str, Any]

    @classmethod
    def parse(cls, entry: Any) -> WeightedReward:
        """The entry, checked.

        Raises:
            ValueError: a reward, setting or weight that cannot work.
        """
        settings = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        weight = settings.pop("weight", 1.0)
        if not is_number(weight) or abs(weight) > MOST_WEIGHT:
            raise ValueError(
                f"weight must be a number, at most {MOST_WEIGHT:,} either way, got {weight!r:.40}"
            )
        try:
            reward = build_reward(settings)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return cls(reward, float(weight), entry)


RewardEntry = Annotated[
    WeightedReward,
    PlainValidator(WeightedReward.parse, json_schema_input_type=str | dict[str, Any]),
    PlainSerializer(lambda entry: entry.written),
]


class Verifier(Section):
    """Who looks a second time at each box, for reward `verified`."""

    model: str = Field(min_length=1, description="model folder, `tiny`, or a server's name for it")
    family: Annotated[str, _checked(build_family)] | None = Field(
        None, description="of the model, where no folder tells it"
    )
    thinking: bool | None = Field(None, description="its template's switch; as of the recipe")
    base_urls: list[str] = Field(
        default_factory=list,
        description="of OpenAI-compatible servers; none runs it beside the trained model",
    )

    @property
    def is_local(self) -> bool:
        """Whether it runs beside the trained model."""
        return not self.base_urls


class Recipe(Section):
    """One experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    method: Literal["grpo", "sft"]
    model: str = Field(
        TINY_MODEL, min_length=1, description="model folder, id of the hub, or `tiny`"
    )
    family: Annotated[str, _checked(build_family)] | None = None
    min_pixels: int | None = Field(
        None, ge=1, description="least area of an image as the model sees it; the model's own"
    )
    max_pixels: int | None = Field(
        None, ge=1, description="largest area of an image as the model sees it; the model's own"
    )
    thinking: bool | None = Field(
        None, description="the chat template's switch for thinking; the template's own choice"
    )
    prompt: Annotated[str, _checked(build_prompt)] = "standard"
    out: Path = Field(
        default_factory=lambda known: default_out(known.get("name"), known.get("method")),
        description="run folder; runs/NAME-METHOD where it is not named",
    )
    seed: int = Field(0, ge=0, lt=SEEDS)
    data: Data
    rewards: list[RewardEntry] = Field(["format", "f1"], min_length=1, validate_default=True)
    verifier: Verifier | None = None
    train: Train = Train()
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _each_reward_once(self) -> Recipe:
        names = [entry.reward.name for entry in self.rewards]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"duplicate reward {twice[0]!r}; give it a weight instead")
        return self

    @model_validator(mode="after")
    def _some_reward_weighs(self) -> Recipe:
        if self.method == "grpo" and not any(entry.weight for entry in self.rewards):
            raise ValueError("all rewards have weight 0, which teaches nothing; give one a weight")
        return self

    @model_validator(mode="after")
    def _verifier_for_its_reward(self) -> Recipe:
        asks = any(entry.reward.name in ASKING for entry in self.rewards)
        if asks and self.verifier is None:
            raise ValueError(
                "reward 'verified' needs a verifier, such as verifier: {model: FOLDER}"
            )
        if self.verifier is not None and not asks:
            raise ValueError("verifier is for reward 'verified', which stands not among rewards")
        return self

    @model_validator(mode="after")
    def _limits_that_can_be(self) -> Recipe:
        low, high = self.min_pixels, self.max_pixels
        try:
            refuse_limits(self.train.trl, "train.trl")
            if self.family is not None:
                build_family(self.family, low, high)
        except UsageError as error:
            raise ValueError(str(error)) from error
        if low and high and low > high:
            raise ValueError(f"min_pixels {low:,} is above max_pixels {high:,}")
        return self

    @model_validator(mode="after")
    def _what_trl_does_not_decide(self) -> Recipe:
        for name, why in NOT_IN_TRL.items():
            if name in self.train.trl:
                raise ValueError(f"train.trl.{name} would {why}")
        return self

    @model_validator(mode="after")
    def _only_answers_taught(self) -> Recipe:
        if self.method == "sft" and self.train.trl.get("completion_only_loss") is False:
            raise ValueError(
                "train.trl.completion_only_loss=false would teach the model to write prompts, with "
                "a placeholder for every part of an image; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _images_shared_with_prompts(self) -> Recipe:
        ordered = self.method == "grpo" and not self.train.trl.get("shuffle_dataset", True)
        if self.train.prompts_per_image > 1 and ordered:
            raise ValueError(
                "train.prompts_per_image draws which prompts of an image stand together, which "
                "train.trl.shuffle_dataset=false forbids; leave out one of them"
            )
        if self.train.prompts_per_image > 1 and not self.engine.shared_prefix:
            raise ValueError("train.prompts_per_image needs engine.shared_prefix")
        return self

    @model_validator(mode="after")
    def _something_to_validate_on(self) -> Recipe:
        if self.train.validate_samples and self.data.test is None and self.data.synthetic is None:
            raise ValueError("train.validate_samples needs data.test")
        return self


def asking_options(recipe: Mapping[str, Any]) -> str:
    """Options of `boxrl predict` and `demo` that ask a model as its recipe trained it.

    Args:
        recipe: its keys.

    Returns:
        Such as ` --prompt enhanced --thinking off`; "" where the options' defaults do so.
    """
    words = [f"--{key} {shlex.quote(str(recipe[key]))}" for key in ("prompt", "family")
             if recipe.get(key) not in (None, "standard")]  # fmt: skip
    if recipe.get("thinking") is not None:
        words.append(f"--thinking {'on' if recipe['thinking'] else 'off'}")
    return "".join(f" {word}" for word in words)
