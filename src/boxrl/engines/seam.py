"""Every name of other libraries that boxrl overrides or reads and that nobody promised to keep.

Here a new version of TRL or transformers is looked at first. tests/engines/test_seam.py has a test
of what each name does, and finds uses of names that do not stand here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, NamedTuple

from boxrl.errors import UsageError


class Name(NamedTuple):
    """A name and what boxrl does with it.

    Attributes:
        owner: the module, or the class in it.
        name: in the owner.
        use: in words.
        arguments: of a function or method, without self; None for what is none.
        on_instances: only there, not on the class.
    """

    owner: str
    name: str
    use: str
    arguments: str | None = None
    on_instances: bool = False

    @property
    def whole(self) -> str:
        """As one would write it."""
        return f"{self.owner}.{self.name}"

    def find(self) -> Any:
        """What has the name now.

        Raises:
            ImportError, AttributeError: nothing has.
        """
        module, _, last = self.owner.rpartition(".")
        try:
            owner = importlib.import_module(self.owner)
        except ModuleNotFoundError:
            owner = getattr(importlib.import_module(module), last)
        return owner if self.on_instances else getattr(owner, self.name)

    def found_arguments(self) -> str:
        """As `arguments`, as they are now."""
        return " ".join(
            name for name in inspect.signature(self.find()).parameters if name != "self"
        )


GRPO, SFT, TRAINER = "trl.GRPOTrainer", "trl.SFTTrainer", "transformers.Trainer"
HEAD = "trl.kernels.chunked_logprob"
OVERRIDDEN = (
    Name(GRPO, "_generate_and_score_completions", "images are prepared once a group", "inputs"),
    Name(GRPO, "_prepare_inputs", "shuffles whole groups", "generation_batch"),
    Name(
        GRPO, "_get_per_token_logps_and_entropies", "runs a group's prompt once",
        "model input_ids attention_mask logits_to_keep batch_size compute_entropy compute_aux_loss "
        "pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles "
        "image_sizes token_type_ids mm_token_type_ids image_position_ids",
    ),
    Name(GRPO, "_compute_loss", "scores groups that earned alike forwards only", "model inputs"),
    Name(GRPO, "_tokenize_prompts", "keeps the prompts as vLLM takes them", "prompts"),
    Name(
        GRPO, "_generate_single_turn", "prefills a group's prompt once",
        "prompt_ids images multimodal_fields num_generations has_tool_images",
    ),
    Name(
        GRPO, "_calculate_rewards", "logs figures of the answers",
        "inputs prompts completions completion_ids_list",
    ),
    Name(GRPO, "_get_train_sampler", "orders samples by the number of the epoch", "dataset"),
    Name(GRPO, "_load_optimizer_and_scheduler", "takes up pending completions", "checkpoint"),
    Name(
        SFT, "compute_loss", "hands over one packed row",
        "model inputs return_outputs num_items_in_batch",
    ),
    Name(TRAINER, "_save_checkpoint", "adds recipe and pending completions", "model trial"),
    Name(TRAINER, "_save", "names tied weights once", "output_dir state_dict"),
    Name(
        TRAINER, "_load_from_checkpoint", "loads weights by the hub's names",
        "resume_from_checkpoint model",
    ),
    Name(TRAINER, "create_optimizer", "adds the vision tower's pace and float32 weights", "model"),
    Name(TRAINER, "log", "adds the share of changed weights", "logs start_time"),
)  # fmt: skip
"""Methods; all but `_prepare_inputs`'s shuffle call the library's own."""

REPLACED = (
    Name("trl.trainer.grpo_trainer", "shuffle_sequence_dict", "by one of whole groups", "seq_dict"),
    Name(GRPO, "vllm_importance_sampling_correction",
         "set to False where the training's forward pass has the ratio", on_instances=True),
    Name("trl.generation.vllm_generation.VLLMGeneration", "generate",
         "by one that takes unexpanded prompts", "prompts images num_generations profiler"),
    Name("trl.generation.vllm_generation.VLLMGeneration", "sync_weights",
         "by one that also forgets images", ""),
    Name("trl.kernels", "chunked_logprob", "the module of the next four"),
    Name(HEAD, "_use_triton", "by yes, where shapes stand for a GPU", "device"),
    Name(HEAD, "_addmm_fp32", "by one that counts, where shapes stand for a GPU", "acc a b"),
    Name(HEAD, "_forward_kernel", "by none, where shapes stand for a GPU"),
    Name(HEAD, "_backward_kernel", "by none, where shapes stand for a GPU"),
    Name("trl.trainer.utils", "_use_triton", "by yes, where shapes stand for a GPU", "device"),
    Name("transformers.Qwen2VLImageProcessor", "preprocess", "by one that sees an image once",
         "images kwargs"),
    Name("transformers.TrainingArguments", "_n_gpu", "set to 1", on_instances=True),
    Name("transformers.PreTrainedConfig", "_attn_implementation", "set: who attends",
         on_instances=True),
    Name("transformers.PreTrainedConfig", "_experts_implementation",
         "set to None, whatever a folder says", on_instances=True),
    Name("transformers.PreTrainedModel", "_is_fsdp_managed_module",
         "set, so that processes generate in step", on_instances=True),
)  # fmt: skip
"""Names that get another value."""

READ = (
    Name(GRPO, "_log_metric", "called: figures of the answers", "name value"),
    Name(GRPO, "_metrics", "the share of groups that earned alike is put right",
         on_instances=True),
    Name(GRPO, "_step", "counts micro-batches", on_instances=True),
    Name(GRPO, "_buffered_inputs", "micro-batches to come, kept in checkpoints",
         on_instances=True),
    Name("trl.trainer.utils", "add_fused_lm_head", "called: log-probabilities without logits",
         "model temperature cast_lm_head_to_fp32 outputs"),
    Name("transformers.PreTrainedModel", "all_tied_weights_keys", "output name -> input name",
         on_instances=True),
    Name("transformers.masking_utils", "sdpa_mask", "registered as the mask of our attention"),
    Name("transformers.masking_utils", "create_masks_for_generate", "called: what tokens see"),
    Name("transformers.trainer_pt_utils", "LabelSmoother", "called: the loss of a dry run"),
    Name("transformers.modeling_layers", "GradientCheckpointingLayer", "found: a model's layers"),
    Name("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS", "`sdpa` of it is called"),
    Name("transformers.cache_utils", "Cache", "what layers take as states"),
    Name("transformers.cache_utils", "DynamicLayer", "subclassed: keys and values of a layer"),
    Name("transformers.cache_utils", "LinearAttentionCacheLayerMixin", "states of a layer"),
    Name("transformers.cache_utils", "LinearAttentionLayer", "subclassed: states of a layer"),
    Name("transformers.Qwen2_5_VLModel", "get_rope_index", "called: positions of a prompt"),
    Name("transformers.Qwen2_5_VLModel", "rope_deltas", "repeated for the draws of a prompt",
         on_instances=True),
    Name("peft.tuners.tuners_utils", "check_target_module_exists",
         "called: which modules adapters take", "config key"),
)  # fmt: skip
"""Names that are called or read."""

NAMES = (*OVERRIDDEN, *REPLACED, *READ)


def require_names() -> None:
    """See that what boxrl builds on is there: an override of nothing would do nothing, silently.

    Raises:
        UsageError: a library no longer has a name.
    """
    for name in (*OVERRIDDEN, *READ):
        try:
            name.find()
        except (ImportError, AttributeError) as error:
            library = name.owner.partition(".")[0]
            raise UsageError(
                f"{library} {metadata.version(library)}: has no {name.whole}, on which boxrl "
                'builds; install the versions that it goes with: pip install "boxrl[train]"'
            ) from error


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block the attribute of `owner`, a module or an object, is this one.

    Args:
        owner: who has it, itself or by its class.
        name: of the attribute.
        value: it has within the block.
    """
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)  # the class's own is back
