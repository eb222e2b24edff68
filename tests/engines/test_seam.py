"""What boxrl builds on in other libraries is there and does what boxrl takes it to do."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.torchvision_repair import repair_torchvision  # noqa: E402

assert repair_torchvision()

from boxrl.engines import seam  # noqa: E402
from boxrl.engines.loading import load, read_config  # noqa: E402
from boxrl.engines.prefix import kinds  # noqa: E402
from boxrl.engines.seam import (  # noqa: E402
    HEAD,
    NAMES,
    OVERRIDDEN,
    Name,
    require_names,
)
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.hollow import hollow_gpu, run_backward  # noqa: E402
from boxrl.engines.training.sft import BoxSFTTrainer  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.seams import COVERED, of  # noqa: E402

ENGINES = Path(seam.__file__).parent
CACHES = "transformers.cache_utils"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.whole)
def test_the_name_is_there_with_these_arguments(name: Name) -> None:
    assert name.find() is not None
    if name.arguments is not None:
        assert name.found_arguments() == name.arguments


def test_a_name_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    require_names()
    monkeypatch.setattr(seam, "OVERRIDDEN", (Name("trl.GRPOTrainer", "_gone", "never there"),))
    with pytest.raises(UsageError, match=r"^trl \S+: has no trl.GRPOTrainer._gone, on which"):
        require_names()


# --- what is used stands in the list ---------------------------------------------------------


def test_every_private_method_that_is_overridden_is_listed() -> None:
    listed = {name.name for name in OVERRIDDEN}
    for trainer in (BoxGRPOTrainer, BoxSFTTrainer):
        own = [base for base in trainer.__mro__ if base.__module__.startswith("boxrl.")]
        other = [base for base in trainer.__mro__ if base not in own and base is not object]
        overridden = {
            name
            for base in own
            for name, value in vars(base).items()
            if inspect.isfunction(value) and any(name in vars(each) for each in other)
        }
        assert {name for name in overridden if re.match(r"_[a-z]", name)} <= listed


def test_every_private_attribute_of_others_is_listed() -> None:
    listed = {name.name for name in NAMES}
    # Of Python's named tuples; of torch, its operators' records and its storages.
    known = {"_replace", "_asdict", "_triton", "_schema", "_overloadpacket", "_cdata"}
    nodes = [node for tree in trees() for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and not re.match(r"aten|torch\.ops", ast.unparse(node.value))
    }
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }
    found = {name for name in used if re.match(r"_[a-zA-Z]", name)}
    assert found - own - known <= listed


def test_every_import_from_within_another_library_is_listed() -> None:
    listed = {(name.owner, name.name) for name in NAMES}
    documented = {"transformers.utils", "transformers.feature_extraction_utils"}
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and re.match(
                r"(trl|transformers|peft|accelerate)\.", node.module or ""
            ):
                if node.module in documented or node.module == "trl.trainer":
                    continue  # the last: the module of GRPOTrainer, whose names are listed
                assert {(node.module, alias.name) for alias in node.names} <= listed


def trees() -> Iterator[ast.Module]:
    """The modules of the room, parsed."""
    for path in ENGINES.rglob("*.py"):
        yield ast.parse(path.read_bytes())


@of(
    "trl.generation.vllm_generation.VLLMGeneration.generate",
    "trl.generation.vllm_generation.VLLMGeneration.sync_weights",
)
def test_trl_asks_vllm_by_these_arguments() -> None:
    from trl import GRPOTrainer

    asked: dict[str, list[Any]] = defaultdict(list)

    def generate(**options: Any) -> Any:
        asked["generate"].append(options)
        return None, [[7]], [[[-0.5]]], None

    trainer = SimpleNamespace(
        use_vllm=True, accelerator=SimpleNamespace(device="cpu", is_main_process=False),
        _last_loaded_step=0, state=SimpleNamespace(global_step=1),
        args=SimpleNamespace(report_to=[]),
        vllm_generation=SimpleNamespace(
            generate=generate, sync_weights=lambda: asked["sync"].append(1)
        ),
    )  # fmt: skip
    found = GRPOTrainer._generate_single_turn(trainer, [[1, 2]], None, {}, 4)
    assert found == ([[7]], [[-0.5]])
    assert asked["sync"] == [1]
    assert asked["generate"][0].keys() == {"prompts", "images", "num_generations", "profiler"}


# --- models -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Any:
    return load("tiny", "float32", "cpu", 1)[0]


@of("transformers.Qwen2VLImageProcessor.preprocess")
def test_image_processors_are_called_through_preprocess() -> None:
    from PIL import Image

    processor = load("tiny", "float32", "cpu", 1)[1].image_processor
    seen = []
    original = processor.preprocess
    processor.preprocess = lambda *args, **kwargs: seen.append(args) or original(*args, **kwargs)
    processor(Image.new("RGB", (56, 56)), return_tensors="pt")
    assert len(seen) == 1


@of("transformers.TrainingArguments._n_gpu")
def test_the_number_of_gpus_is_what_was_set(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    args = TrainingArguments(str(tmp_path), use_cpu=True)
    args._n_gpu = 3
    assert args.n_gpu == 3


@of(
    "transformers.PreTrainedConfig._attn_implementation",
    "transformers.PreTrainedConfig._experts_implementation",
)
def test_an_implementation_that_is_none_is_chosen_by_transformers(model: Any) -> None:
    config = type(model.config).from_dict(model.config.to_dict())
    config._attn_implementation = config._experts_implementation = None
    with torch.device("meta"):
        built = type(model)(config)
    assert built.config._attn_implementation == "sdpa"
    assert "experts_implementation" not in config.to_dict()


@of("transformers.PreTrainedModel._is_fsdp_managed_module")
def test_generation_asks_whether_a_module_is_sharded() -> None:
    from transformers.distributed.fsdp import is_fsdp_managed_module

    module = torch.nn.Linear(1, 1)
    assert not is_fsdp_managed_module(module)
    module._is_fsdp_managed_module = True
    assert is_fsdp_managed_module(module)


@of("trl.trainer.utils.add_fused_lm_head")
def test_the_fused_head_gives_log_probabilities_without_logits() -> None:
    from trl.trainer.utils import add_fused_lm_head

    plain, fused = (load("tiny", "float32", "cpu", 1)[0] for _ in range(2))
    add_fused_lm_head(fused, outputs=("log_probs", "entropy"))
    ids = torch.randint(9, 90, (1, 7), generator=torch.Generator().manual_seed(0))
    output = fused(input_ids=ids, labels=ids, fused_lm_head=True)
    expected = plain(input_ids=ids).logits[:, :-1].log_softmax(-1)
    scored = expected.gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(output.log_probs, scored)
    entropy = -(expected.exp() * expected).sum(-1)
    torch.testing.assert_close(output.entropy, entropy)
    assert getattr(output, "logits", None) is None


@of("transformers.PreTrainedModel.all_tied_weights_keys")
def test_tied_weights_are_named(model: Any) -> None:
    weights = dict(model.named_parameters(remove_duplicate=False))
    assert model.all_tied_weights_keys
    for output, source in model.all_tied_weights_keys.items():
        assert weights[output] is weights[source]


@of("transformers.modeling_layers.GradientCheckpointingLayer")
def test_layers_of_text_and_tower_are_of_one_class(model: Any) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    modules = dict(model.named_modules())
    found = [name for name, x in modules.items() if isinstance(x, GradientCheckpointingLayer)]
    assert found
    assert found == [name for name in modules if re.search(r"\.(layers|blocks)\.\d+$", name)]


@of("transformers.masking_utils.sdpa_mask", "transformers.masking_utils.create_masks_for_generate")
def test_masks_are_made_by_name_of_attention(model: Any) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    for mask in kinds._masks(model, 4, None).values():
        assert torch.equal(mask.bool(), torch.ones(4, 4).tril().bool())


@of("transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS")
def test_attention_functions_take_heads_first_and_give_tokens_first() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    layer = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
    query, key = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8)
    found, weights = ALL_ATTENTION_FUNCTIONS["sdpa"](layer, query, key, key, None)
    assert found.shape == (1, 5, 4, 8) and weights is None


@of(f"{CACHES}.Cache", f"{CACHES}.DynamicLayer")
def test_a_growing_layer_appends() -> None:
    from transformers import DynamicCache
    from transformers.cache_utils import Cache, DynamicLayer

    layer, states = DynamicLayer(), torch.randn(1, 2, 3, 4)
    layer.lazy_initialization(states, states)
    layer.keys = layer.values = states
    keys, values = layer.update(states, states)
    assert torch.equal(keys, torch.cat([states, states], 2)) and torch.equal(keys, values)
    cache = DynamicCache()
    assert isinstance(cache, Cache) and cache.layers == []
    cache.update(states, states, 0)
    assert type(cache.layers[0]) is DynamicLayer


@of(f"{CACHES}.LinearAttentionCacheLayerMixin", f"{CACHES}.LinearAttentionLayer")
def test_a_layer_that_looks_back_keeps_its_states_by_number() -> None:
    from transformers.cache_utils import LinearAttentionCacheLayerMixin, LinearAttentionLayer

    layer, state = LinearAttentionLayer(), torch.randn(1, 2, 3, 4)
    assert isinstance(layer, LinearAttentionCacheLayerMixin)
    layer.update_recurrent_state(state)
    assert torch.equal(layer.recurrent_states[0], state)
    assert isinstance(layer.conv_states, dict) and isinstance(layer.has_previous_state, dict)


@of("transformers.Qwen2_5_VLModel.get_rope_index", "transformers.Qwen2_5_VLModel.rope_deltas")
def test_positions_of_a_prompt_are_three_by_token(model: Any) -> None:
    core = model.model
    assert hasattr(core, "rope_deltas")
    image = model.config.image_token_id
    ids = torch.tensor([[5, image, image, image, image, 6]])
    grid = torch.tensor([[1, 4, 4]])
    types = (ids == image).int()
    positions, deltas = core.get_rope_index(ids, mm_token_type_ids=types, image_grid_thw=grid)
    assert positions.shape == (3, 1, 6) and deltas.shape == (1, 1)
    assert positions[:, 0, 1:5].tolist() == [[1, 1, 1, 1], [1, 1, 2, 2], [1, 2, 1, 2]]


@of(
    "trl.kernels.chunked_logprob", f"{HEAD}._use_triton", f"{HEAD}._addmm_fp32",
    f"{HEAD}._forward_kernel", f"{HEAD}._backward_kernel",
)  # fmt: skip
def test_the_head_is_counted_as_on_a_gpu_where_shapes_stand_for_one() -> None:
    from trl.kernels import chunked_logprob

    hidden = torch.empty(64, 32, device="meta", requires_grad=True)
    weight = torch.empty(1000, 32, device="meta", requires_grad=True)
    targets, tile = torch.zeros(64, dtype=torch.long), 500
    with hollow_gpu(half=False) as (gpu, _):
        found = chunked_logprob.ChunkedLogProbFunction.apply(
            hidden, weight, None, targets, 1.0, tile, None, 1.0, ("entropy",)
        )
        run_backward(found[0].sum())
    assert gpu.flops == 4 * 2 * 64 * 32 * 1000  # forwards, again backwards, and two gradients
    assert gpu.peak < 4 * (64 * tile + 2 * 1000 * 32 + 3 * 64 * 32 + 20 * 512)  # of which one tile


@of("trl.trainer.utils._use_triton")
def test_the_head_scores_labelled_positions_alone_on_a_gpu() -> None:
    from trl.trainer.utils import add_fused_lm_head

    kind = type(load("tiny", "float32", "cpu", 1)[0])
    with torch.device("meta"):
        model = kind(read_config(model_folder("tiny")))
    add_fused_lm_head(model)
    ids, flops = torch.arange(20, 60)[None], []
    for unlabelled in (0, 20):
        labels = ids.clone()
        labels[:, :unlabelled] = -100
        with hollow_gpu(half=False) as (gpu, _):
            model(input_ids=ids, labels=labels, fused_lm_head=True)
        flops.append(gpu.flops)
    head = model.get_output_embeddings().weight
    assert flops[0] - flops[1] == 2 * 19 * head.numel()


@of("transformers.trainer_pt_utils.LabelSmoother")
def test_smoothed_labels_are_learned_from_the_logits_of_the_tokens_before() -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 1, -100, 2], [3, 4, 0, 1]])
    found = LabelSmoother(0.1)({"logits": logits}, labels, shift_labels=True)
    every, known = -logits.log_softmax(-1)[:, :-1], labels[:, 1:] >= 0
    chosen = every.gather(-1, labels[:, 1:, None].clamp(min=0))[..., 0]
    expected = 0.9 * chosen[known].mean() + 0.1 * every[known].mean()
    assert found.allclose(expected)


@of("peft.tuners.tuners_utils.check_target_module_exists")
def test_adapters_say_which_modules_they_take() -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    config = LoraConfig(target_modules=["q_proj"])
    assert check_target_module_exists(config, "model.layers.0.q_proj")
    assert not check_target_module_exists(config, "lm_head")


def test_every_name_has_a_test_of_what_it_does() -> None:
    import_module("tests.engines.test_seam_trainers")
    assert {name.whole for name in NAMES} == COVERED
