"""TRL's GRPOTrainer with the prompt of a group run once: in generation, scoring and training.

Methods of TRL 1.16 are overridden, none is copied; the loss code is TRL's own, so every loss
type, clipping and importance sampling stays as it is. `shared_prefix = False` gives TRL's own
path throughout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer import grpo_trainer as of_trl

from boxrl.data.files import finite
from boxrl.data.samples import parse_line
from boxrl.engines.loading import as_asked
from boxrl.engines.prefix.images import count_first
from boxrl.engines.prefix.prefill import generate_groups
from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.shared_prefix import enable, unwrap
from boxrl.engines.prefix.trees import why_apart
from boxrl.engines.seam import replaced
from boxrl.engines.training.batches import (
    check_whole_groups,
    chunk_groups,
    fill_images,
    find_groups,
    keep_first_images,
    mark_answers,
    repeat_first_images,
    shuffle_groups,
    split_rows,
)
from boxrl.engines.training.checkpoints import cut_alike, step_of
from boxrl.engines.training.frozen_tower import find_frozen
from boxrl.engines.training.idle_groups import (
    earned_alike,
    log_probs_of_learning,
    rows_at_rest,
)
from boxrl.engines.training.importance import Divergence, correction_of_forward
from boxrl.engines.training.preprocessing import (
    decode_once,
    once_per_group,
    one_beginning,
    refusals_by_sample,
    unparsed,
)
from boxrl.engines.training.trainer_mixin import BoxTrainer
from boxrl.engines.training.vllm_sync import (
    expanding,
    forget_images,
    limits_named,
    shown_images,
    unexpanded,
)
from boxrl.engines.training.warnings import describe_answers
from boxrl.errors import UsageError
from boxrl.generation.marks import reader
from boxrl.parsing import AnswerTag
from boxrl.types import Sample

COMPLETIONS_EVERY = 10
"""Steps between sampled groups in completions.jsonl."""
PENDING = "generation_{}.pt"
"""In a checkpoint: micro-batches of a process that further steps are to learn from."""
REFERENCE = "reference.pt"
"""In a checkpoint: weights of the reference model, where it follows the trained one."""


class BoxGRPOTrainer(BoxTrainer, GRPOTrainer):
    """GRPO whose groups share their prompt; keeps one group of completions every few steps."""

    def __init__(
        self,
        *args: Any,
        completions_path: Path,
        opened: bool = False,
        answer_tag: AnswerTag = "required",
        attention: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, attention=attention, **kwargs)
        if self.shared_prefix:
            held = self.args.per_device_train_batch_size * self.args.steps_per_generation
            check_whole_groups(held, self.num_generations)
        self.completions_path = completions_path
        self._read = reader(self.processing_class.tokenizer, self.family)
        self._describe = partial(describe_answers, opened=opened, answer_tag=answer_tag)
        # Of sharded models every process has to run every layer whenever another does.
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        self._tower = None if sharded else find_frozen(self.model)
        self._rests = self.shared_prefix and not sharded and self._loss_is_by_advantage()
        self._idle: set[int] = set()
        self._correction = correction_of_forward(self) if self.shared_prefix else None
        self._divergence = Divergence()
        self._unweighed: dict[str, Any] | None = None
        self._rewards = torch.zeros(0)
        self._buffered_inputs: Any
        self._colocated = self.use_vllm and self.vllm_mode == "colocate"
        self._placeholders: list[list[int]] = []
        self._limits_named = False
        if self.use_vllm:
            forget_images(self.vllm_generation)
            self._limits_named = limits_named(Path(unwrap(self.model).name_or_path), self.family)
        if self.is_fsdp_enabled:
            # transformers asks it whether generation must keep the processes in step; accelerate,
            # which shards the model, does not say so.
            unwrap(self.model)._is_fsdp_managed_module = True
        if self.shared_prefix and self.ref_model is not None:
            enable(self.accelerator.unwrap_model(self.ref_model), attention)

    def _loss_is_by_advantage(self) -> bool:
        """Whether rows of advantage 0 add nothing to the loss; says once why they do."""
        bonus = self.entropy_coef or self.use_adaptive_entropy
        why = "train.beta" if self.beta else "an entropy bonus" if bonus else ""
        if why:
            self.notices["idle_groups"] = (
                f"groups whose completions earned alike are trained on, too, for {why} asks for it"
            )
        return not why

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's; what a frozen vision tower makes of an image is kept while the image is in use."""
        with self._tower.keeping() if self._tower else nullcontext():
            return super().training_step(*args, **kwargs)

    # --- which rows belong together -----------------------------------------------------------

    @property
    def _group_size(self) -> int:
        """Rows of a group; they stand together, as TRL's sampler yields them."""
        size: int = self.num_generations if self.model.training else self.num_generations_eval
        return size

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """TRL's, drawn as the recipe says; images are prepared once a group, prompts read once."""
        size = self._group_size
        if self._tower:
            self._tower.forget()
        processor, rows = self.processing_class, decode_once(inputs)
        once = once_per_group(processor, size) if self.shared_prefix else nullcontext()
        corrects = self.vllm_importance_sampling_correction
        if self._correction and self.model.training:
            corrects = False  # a pass of its own; see `_weigh`
        later = replaced(self, "vllm_importance_sampling_correction", corrects)
        marked = replaced(processor, "batch_decode", self._decode)
        refusals = refusals_by_sample(rows, processor.image_processor)
        drawn = as_asked(unwrap(self.model))
        begun = one_beginning(processor)
        with unparsed(processor.tokenizer), begun, refusals, once, later, marked, drawn:
            batch = super()._generate_and_score_completions(rows)
        if self.shared_prefix:
            batch = count_first(batch, len(inputs), size)
            self._clear_noise(batch, size)
        return batch

    def _decode(self, completions: Any, **_: Any) -> list[str]:
        """Texts of completions as `boxrl predict` has them, where TRL drops every special token."""
        return [self._read(ids) for ids in completions]

    def _clear_noise(self, batch: dict[str, Any], size: int) -> None:
        """Equal rewards have no advantage at all; the logged share of such groups counts them."""
        earned = self._rewards
        if self.multi_objective_aggregation == "sum_then_normalize":
            summed = (earned * self.reward_weights.to(earned)).nansum(1, keepdim=True)
            earned = summed.masked_fill(earned.isnan().all(1, keepdim=True), torch.nan)
        alike = torch.stack([earned_alike(rewards, size) for rewards in earned.T]).all(0)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["frac_reward_zero_std"][-1] = alike.float().mean().item()
        start = self.accelerator.process_index * len(batch["advantages"])
        own = alike[start : start + len(batch["advantages"])]
        batch["advantages"] = batch["advantages"].masked_fill(own, 0)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, but the shuffle keeps groups whole; its own permutes single rows."""
        if not self.shared_prefix:
            return super()._prepare_inputs(generation_batch)
        with replaced(of_trl, "shuffle_sequence_dict", self._shuffle_groups):
            return super()._prepare_inputs(generation_batch)

    def _shuffle_groups(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows as TRL splits them, in a new order of whole groups, each with one image."""
        size = self.num_generations
        chunk = len(batch["prompt_ids"]) // self.args.steps_per_generation
        # Bundles of prompts are shuffled already, and stay in their micro-batches.
        whole = math.lcm(size, chunk) if self.prompts_per_image > 1 else size
        batch = shuffle_groups(repeat_first_images(batch), whole)
        return keep_first_images(batch, size, chunk)

    # --- log-probabilities ---------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        """TRL's; rows of advantage 0 are scored without a backward pass where that is exact."""
        rests = self._rests and torch.is_grad_enabled()
        self._idle = rows_at_rest(inputs["advantages"]) if rests else set()
        if self._correction and "importance_sampling_ratio" not in inputs:
            self._unweighed = inputs
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._idle, self._unweighed = set(), None

    def _weigh(self, inputs: dict[str, Any], trained: Tensor) -> None:
        """Add the ratio that TRL reads behind its forward pass, and log its figures once a step."""
        assert self._correction is not None
        sampled, mask = inputs["sampling_per_token_logps"], inputs["completion_mask"]
        ratio = self._correction.ratio(trained, sampled, mask)
        inputs["importance_sampling_ratio"] = ratio
        self._divergence.add(trained, sampled, mask, ratio)
        if (self._step + 1) % self.args.steps_per_generation == 0:
            for name, value in self._divergence.take(self.accelerator).items():
                self._metrics["train"][name].append(value)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Current, old and reference log-probabilities, "b c"; the prompt is run once a group."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **images}
        if self.shared_prefix:
            inputs = count_first(inputs, len(input_ids), self._group_size)
        if self.shared_prefix and not self._checked and not self._inexact:
            self._check_first(model, inputs, logits_to_keep)
        if not self.shared_prefix or self._inexact:
            found = self._score_by_trl(
                model, inputs, logits_to_keep, batch_size, compute_entropy, compute_aux_loss
            )
        else:
            rows = split_rows(inputs, logits_to_keep)
            found = self._score_packed(model, rows, batch_size or len(input_ids), compute_entropy)
        if self._unweighed is not None:
            self._weigh(self._unweighed, found[0].detach())
        return found

    def _score_packed(
        self, model: Any, rows: Rows, max_rows: int, compute_entropy: bool
    ) -> tuple[Tensor, Tensor | None, None]:
        """As TRL's method: log-probabilities and entropies, each prompt run once."""
        logps: list[Tensor] = []
        entropies: list[Tensor] = []
        # As many forward passes on every process, whose weights and buffers come from all of them.
        for groups in chunk_groups(find_groups(rows, self._group_size), max_rows):
            if not self._bundles_seen:
                self._say_why_apart(why_apart(unwrap(model), rows, groups))
            start, end = groups[0][0], groups[-1][-1] + 1
            part = rows.between(start, end)
            local = [[row - start for row in group] for group in groups]
            idle = {row - start for row in self._idle}
            with self.accelerator.autocast():
                logp, entropy = log_probs_of_learning(
                    model, part, local, idle, self.accelerator.num_processes > 1
                )
            logps.append(logp)
            if compute_entropy and entropy is not None:
                entropies.append(entropy)
        return torch.cat(logps), torch.cat(entropies) if entropies else None, None

    def _score_by_trl(self, model: Any, inputs: dict[str, Any], n: int, *options: Any) -> Any:
        """TRL's own log-probabilities of completions of `n` tokens; every row brings its image."""
        filled = fill_images(inputs)
        ids, mask = filled.pop("input_ids"), filled.pop("attention_mask")
        answers = torch.arange(ids.shape[1], device=ids.device) >= ids.shape[1] - n
        mark_answers(unwrap(model), filled, answers)
        return super()._get_per_token_logps_and_entropies(model, ids, mask, n, *options, **filled)

    def _score_plainly(self, model: Any, inputs: dict[str, Any], n: int) -> Tensor:
        """TRL's log-probabilities "b c", row by row for its path needs memory for each.

        Several processes compare more or fewer rows, and have to run forwards equally often.
        """
        at_once = len(inputs["input_ids"]) if self.accelerator.num_processes > 1 else 1
        logps: Tensor = self._score_by_trl(model, inputs, n, at_once)[0]
        return logps

    @contextmanager
    def _plainly(self, model: Any) -> Iterator[None]:
        """Nothing of ours in the tower either."""
        with super()._plainly(model), self._tower.keeping(False) if self._tower else nullcontext():
            yield

    # --- generation ----------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: Any) -> Any:
        """TRL's; keeps the prompts as vLLM in this process takes them, too."""
        if self._colocated:
            self._placeholders = unexpanded(
                self.processing_class,
                prompts,
                chat_template=self.chat_template,
                **self.chat_template_kwargs,
            )
        return super()._tokenize_prompts(prompts)

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *rest: Any
    ) -> Any:
        """TRL's; with transformers the prompt is prefilled once a group. vLLM does so itself."""
        if self._limits_named:
            images = shown_images(images, self.family)
        if self._colocated:
            engine = self.vllm_generation
            with replaced(engine, "generate", expanding(engine.generate, self._placeholders)):
                return super()._generate_single_turn(
                    prompt_ids, images, multimodal_fields, num_generations, *rest
                )
        single_image = images is not None and all(len(row or []) == 1 for row in images)
        if not self.shared_prefix or self.use_vllm or not single_image:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *rest
            )
        model = self.accelerator.unwrap_model(self.model)
        generate = model.generate

        def once(generation_config: Any = None, **inputs: Any) -> Tensor:
            with replaced(model, "generate", generate):  # generate_groups calls the model's own
                return generate_groups(
                    model, inputs, num_generations, generation_config=generation_config
                )

        with replaced(model, "generate", once):
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *rest
            )

    # --- figures and completions.jsonl ----------------------------------------------------------

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._rewards = rewards  # of all processes
        samples = [parse_line(row["sample"]) for row in inputs]
        texts = [completion[0]["content"] for completion in completions]
        for name, value in self._describe(texts, samples, self.family).items():
            self._log_metric(name, value)
        if self.accelerator.is_main_process and self.state.global_step % COMPLETIONS_EVERY == 0:
            first = self.num_generations
            self._keep(samples[:first], texts[:first], rewards[:first].tolist())
        return rewards

    def _keep(self, samples: list[Sample], texts: list[str], rewards: list[list[float]]) -> None:
        rows = [
            {
                "step": self.state.global_step + 1,  # the one that learns from them
                "id": sample.id,
                "completion": text,
                "rewards": dict(zip(self.reward_func_names, values, strict=True)),
            }
            for sample, text, values in zip(samples, texts, rewards, strict=True)
        ]
        with self.completions_path.open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows)

    # --- resume ---------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's, whose order would depend on the epochs drawn in this process, as now by number."""
        seed = self.args.seed
        if self.prompts_per_image > 1:
            with replaced(self, "shuffle_dataset", False):
                inner = super()._get_train_sampler(dataset)
            room = max(self._rows_ordered // self.num_generations, 1)
            return self._bundled(inner, dataset or self.train_dataset, room)
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(seed + epoch)
        return sampler

    def take_up(self, checkpoint: Path) -> None:
        """Refuse what this run cannot go on with.

        Raises:
            UsageError: completions are still to be learned from, by micro-batches of another size
                or another number of processes, or a reference that had moved is not there.
        """
        super().take_up(checkpoint)
        if self.args.sync_ref_model and not (checkpoint / REFERENCE).is_file():
            raise UsageError(
                f"{checkpoint}: holds no {REFERENCE}, the reference that train.trl.sync_ref_model "
                "moves (of sharded models none is kept), so the KL term would be of the start "
                "model again; train into another folder"
            )
        rows, count = self.args.per_device_train_batch_size, self.args.steps_per_generation
        files = list(checkpoint.glob(PENDING.format("*")))
        own = checkpoint / PENDING.format(self.accelerator.process_index)
        if files:
            fits = len(files) == self.accelerator.num_processes and own in files
            fits = fits and _rows_pending(own) == [rows] * count
        else:
            done = step_of(checkpoint) * self.args.gradient_accumulation_steps
            fits = not done % (count * self.num_iterations)
            fits = fits or (self._rows_begun == rows and cut_alike(checkpoint, self.recipe))
        if not fits:
            raise UsageError(
                f"{checkpoint}: stopped in the middle of a generation, which is cut into other "
                "micro-batches here; resume with the micro_batch_prompts and processes it had"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """TRL's, with completions that further steps are still to learn from."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        if self._step % (self.args.steps_per_generation * self.num_iterations):
            pending = {"step": self._step, "inputs": self._buffered_inputs}
            torch.save(pending, folder / PENDING.format(self.accelerator.process_index))
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if self.args.sync_ref_model and not sharded and self.state.is_world_process_zero:
            torch.save(unwrap(self.ref_model).state_dict(), folder / REFERENCE)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.args.sync_ref_model:
            weights = torch.load(Path(checkpoint) / REFERENCE, "cpu", weights_only=True)
            unwrap(self.ref_model).load_state_dict(weights)
        name = PENDING.format(self.accelerator.process_index)
        if checkpoint is not None and (Path(checkpoint) / name).is_file():
            device = self.accelerator.device
            pending = torch.load(Path(checkpoint) / name, device, weights_only=True)
            self._step, self._buffered_inputs = pending["step"], pending["inputs"]


def _rows_pending(file: Path) -> list[int]:
    """Rows of each micro-batch that a checkpoint keeps; their tensors are not read."""
    pending = torch.load(file, "cpu", weights_only=True, mmap=True)
    return [len(batch["prompt_ids"]) for batch in pending["inputs"]]
