"""What boxrl's trainers share beside TRL's: checkpoints, resumed weights, a paced vision tower."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from boxrl.data.files import share_weights, write_atomic
from boxrl.engines.loading import read_weights
from boxrl.engines.prefix.shared_prefix import (
    enable,
    log_probs,
    plain_windows,
    put_windows_back,
    unwrap,
)
from boxrl.engines.training.batches import split_rows
from boxrl.engines.training.bundles import BundleSampler
from boxrl.engines.training.checkpoints import RECIPE, require_optimizer, rows_begun
from boxrl.engines.training.frozen_tower import FrozenTower
from boxrl.engines.training.paths import compare_first, describe_difference, path_of_trl
from boxrl.engines.training.weights import ChangedWeights, keep_in_float32
from boxrl.errors import UsageError
from boxrl.families import Family


class BoxTrainer:
    """Trainer mixin, left of TRL's class.

    Attributes:
        family: the model's; it names the vision tower.
        recipe: as YAML; every checkpoint keeps it.
        vision_learning_rate: the vision tower's own; None leaves it at the recipe's.
        notices: what the run has to say once, by kind.
        shared_prefix: whether prompts are shared and rows packed; False is TRL's own path.
        prompts_per_image: samples of one image that stand behind each other, at most.
    """

    REPEATS = "runs the prompt for every completion"
    """What TRL's path does instead."""

    accelerator: Any
    model: Any
    args: Any
    state: Any
    optimizer: Any
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool

    def __init__(
        self,
        *args: Any,
        family: Family,
        recipe: str,
        vision_learning_rate: float | None = None,
        shared_prefix: bool | str = True,
        attention: str = "auto",
        prompts_per_image: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.family = family
        self.recipe = recipe
        self.vision_learning_rate = vision_learning_rate
        self.notices: dict[str, str] = {}
        self._changed: ChangedWeights | None = None
        self._rows_begun: int | None = None
        # TRL's SFT sets it besides asking for it in every step; what is saved could not generate.
        text_config = unwrap(self.model).config.get_text_config()
        if hasattr(text_config, "output_router_logits"):
            text_config.output_router_logits = False
        self.shared_prefix = bool(shared_prefix) and self._can_share()
        self._fall_back = shared_prefix == "if_exact"
        self.prompts_per_image = prompts_per_image
        self._tower: FrozenTower | None = None
        self._bundles_seen = prompts_per_image == 1
        self._checked = self._inexact = False
        self._undifferentiated = self._why_undifferentiated()
        if self.shared_prefix:
            enable(self.accelerator.unwrap_model(self.model), attention)

    def take_up(self, checkpoint: Path) -> None:
        """Be told of the checkpoint that training goes on from, before it begins.

        Raises:
            UsageError: it holds too little to go on from, or is of micro-batches of another size.
        """
        require_optimizer(checkpoint)
        self._rows_begun = rows_begun(checkpoint)

    @property
    def _rows_ordered(self) -> int:
        """Rows of the micro-batches that bundles are put into: those that the run began with.

        Others would be another order of the samples; a resumed epoch would miss some of them.
        """
        rows: int = self._rows_begun or self.args.per_device_train_batch_size
        return rows

    def _can_share(self) -> bool:
        """Whether the prompt can be shared exactly; says once why not."""
        why = self._unshared()
        if why:
            self.notices["trl_path"] = f"training takes TRL's path, which {self.REPEATS}: {why}"
        return why is None

    def _unshared(self) -> str | None:
        """Why training has to take TRL's path; None where it has not."""
        return path_of_trl(unwrap(self.model), vars(self.args))

    def _why_undifferentiated(self) -> str | None:
        """Why gradients of the first micro-batch are not compared; None where they are."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return "each process holds a part of the weights"
        if (self.args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            return "reentrant checkpointing differentiates with respect to all weights or none"
        return None

    def _bundled(self, inner: Any, dataset: Any, room: int) -> BundleSampler:
        """The order of `inner` over bundles of samples of one image; says where there are none."""
        images = list(dataset["image"])
        if len(set(images)) == len(images):
            self.notices["image_trees"] = (
                "no image has several prompts, so train.prompts_per_image changes nothing"
            )
        return BundleSampler(inner, images, self.prompts_per_image, room, self.args.seed)

    def _say_why_apart(self, why: str | None) -> None:
        """Say once why prompts of one image do not share it; None where none were there yet."""
        self._bundles_seen = why is not None
        if why:
            self.notices["image_trees"] = f"prompts of one image do not share its tokens: {why}"

    def _check_first(self, model: Any, inputs: dict[str, Any], n: int) -> None:
        """Compare both paths on a few completions, on every process alike.

        Gradients, too, once they are asked for.

        Raises:
            UsageError: they differ by more than rounding, and the recipe wants no other path.
        """
        backwards = torch.is_grad_enabled() and not self._undifferentiated
        halves = {torch.bfloat16: self.args.bf16, torch.float16: self.args.fp16}
        dtype = next((half for half, on in halves.items() if on), unwrap(model).dtype)
        paths = self._score_shared, self._score_plainly, self._plainly
        found, tokens = compare_first(model, inputs, n, *paths, dtype, backwards=backwards)
        said = describe_difference(self.accelerator.gather(found[None]))
        # Else all completions were cut and masked, or gradients are still to come.
        seen = bool(self.accelerator.gather(tokens).any())
        self._checked = seen and (backwards or bool(self._undifferentiated))
        self._inexact = bool(said)
        if said and not self._fall_back:
            raise UsageError(
                f"engine.shared_prefix: {said}; set it to false, or to if_exact to take TRL's "
                "path by itself, and report this model"
            )
        if said:
            self.notices["trl_path"] = f"training takes TRL's path: {said}"
            self._give_way()
        elif self._checked and self._undifferentiated:
            self.notices["gradients"] = (
                "the first micro-batch has TRL's log-probabilities; its gradients were not "
                f"compared, for {self._undifferentiated}: boxrl doctor parity compares them"
            )

    def _give_way(self) -> None:
        """Leave the rest of the run to TRL: no kernel of ours in a tower, no features kept."""
        for model in (self.model, getattr(self, "ref_model", None)):
            if model is not None:
                put_windows_back(model)
        if self._tower is not None:
            self._tower.keep_nothing()
            self._tower = None

    def _score_shared(
        self, model: Any, groups: list[range], inputs: dict[str, Any], n: int
    ) -> Tensor:
        """Log-probabilities "b c" of rows in groups, whose prompts are run once."""
        with self.accelerator.autocast():
            return log_probs(model, split_rows(inputs, n), groups)[0]

    def _score_plainly(self, model: Any, inputs: dict[str, Any], n: int) -> Tensor:
        """TRL's log-probabilities "b c"."""
        raise NotImplementedError

    def _plainly(self, model: Any) -> AbstractContextManager[None]:
        """A block in which nothing of boxrl's is in the model, forwards and backwards."""
        return plain_windows(model)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: recipe.yaml and environment.json of the run folder say more."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint that says which recipe it is of."""
        if self.state.is_world_process_zero:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomic(folder / RECIPE) as handle:
                handle.write(self.recipe)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights as one process names them: tied ones once, as the input embeddings.

        Gathered from several processes, they come under the output layer's name alone (FSDP2),
        where who reads by the hub's names misses the input embeddings, or twice (ZeRO-2).
        """
        for output, source in unwrap(self.model).all_tied_weights_keys.items():
            if state_dict and output in state_dict:
                state_dict[source] = state_dict.pop(output)
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        share_weights(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Start a resumed run from the checkpoint's weights.

        Vision-language models are saved under the names of their hub files. transformers 5.23
        loads them on resume under the names of the modules, matches none, and silently goes on
        from the base model.
        """
        model = model or self.model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            # FSDP and peft write and read names of their own.
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = read_weights(type(model), resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """The optimizer, which works on float32 weights and is told the vision tower's pace.

        Raises:
            UsageError: the tower has a pace of its own, and no weight of it is trained.
        """
        is_new = self.optimizer is None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        if not is_new:
            return optimizer
        if self.vision_learning_rate is not None:
            named = self.model.named_parameters()
            tower = self.family.vision_module
            vision = {id(p) for name, p in named if f".{tower}." in f".{name}"}
            trained = (p for group in optimizer.param_groups for p in group["params"])
            if vision.isdisjoint(map(id, trained)):
                raise UsageError(
                    f"train.vision_learning_rate: no weight of a module {tower!r}, the vision "
                    "tower by its family, is trained; leave it out, train some of them "
                    "(train.lora.target_modules), or name another --family"
                )
            set_group_lr(optimizer, vision, self.vision_learning_rate)
        # DeepSpeed and FSDP keep float32 weights of their own, and a scaler wants the gradients.
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if not sharded and self.accelerator.scaler is None:
            keep_in_float32(optimizer)
        self._changed = ChangedWeights(optimizer)
        return optimizer

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """TRL's, with the share of the weights that the step changed."""
        share = self._changed.take_share() if self._changed and "loss" in logs else None
        told = logs if share is None else {**logs, "weights_changed": share}
        super().log(told, *args, **kwargs)  # type: ignore[misc]


def set_group_lr(optimizer: Optimizer, parameters: set[int], learning_rate: float) -> None:
    """Move the parameters with these ids into groups with their own learning rate."""
    for group in list(optimizer.param_groups):
        apart = [p for p in group["params"] if id(p) in parameters]
        if apart:
            group["params"] = [p for p in group["params"] if id(p) not in parameters]
            options = {key: value for key, value in group.items() if key != "params"}
            optimizer.add_param_group({**options, "params": apart, "lr": learning_rate})
