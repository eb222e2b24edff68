"""What boxrl builds on in other libraries is there and does what boxrl takes it to do."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
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
    GRPO,
    HEAD,
    NAMES,
    OVERRIDDEN,
    TRAINER,
    Name,
    require_names,
)
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.hollow import hollow_gpu, run_backward  # noqa: E402
from boxrl.engines.training.sft import BoxSFTTrainer  # noqa: E402
from boxrl.engines.training.train import train_run  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

ENGINES = Path(seam.__file__).parent
COVERED: set[str] = set()
STEPS, PROMPTS, GROUP, WIDTH = 2, 2, 4, 16
CACHES = "transformers.cache_utils"


def of(*names: str) -> Callable[[Any], Any]:
    """The test tells what these names do."""
    COVERED.update(names)
    return lambda test: test


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


# --- what trainers are asked ------------------------------------------------------------------


class Calls(dict[str, list[tuple[dict[str, Any], Any]]]):
    """By name (arguments, result) of each call; `trainer` is the last that was asked."""

    trainer: Any
    recipe: Any


@pytest.fixture(scope="module")
def calls(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """What TRL asks boxrl's trainer in two steps of two micro-batches, and in a resumed third."""
    found = Calls()
    recipe = tiny_recipe(
        scene_folder, tmp_path_factory.mktemp("seam") / "run", max_steps=STEPS, save_steps=1,
        prompts_per_step=PROMPTS, micro_batch_prompts=1, num_generations=GROUP,
        max_completion_length=WIDTH,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in [*(name.name for name in OVERRIDDEN), "_log_metric", "_shuffle_groups"]:
            patch.setattr(BoxGRPOTrainer, name, recorded(found, name))
        train_run(recipe)
        longer = recipe.train.model_copy(update={"max_steps": STEPS + 1})
        train_run(recipe.model_copy(update={"train": longer}), resume=True)
    found.recipe = recipe
    return found


def recorded(found: Calls, name: str) -> Any:
    """The trainer's method, noting down arguments and results."""
    original = getattr(BoxGRPOTrainer, name)
    signature = inspect.signature(original)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        found.trainer = given.pop("self")
        found.setdefault(name, []).append((given, result))
        return result

    return method


@of(f"{GRPO}._generate_and_score_completions")
def test_completions_are_asked_for_once_a_step_by_whole_groups(calls: Calls) -> None:
    asked = calls["_generate_and_score_completions"]
    assert len(asked) == STEPS + 1
    for given, batch in asked:
        samples = [row["sample"] for row in given["inputs"]]
        assert len(samples) == PROMPTS * GROUP
        assert all(len(set(samples[k : k + GROUP])) == 1 for k in range(0, len(samples), GROUP))
        for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask"):
            assert len(batch[name]) == len(samples)
        assert batch["advantages"].shape == (len(samples),)


@of(f"{GRPO}._prepare_inputs", "trl.trainer.grpo_trainer.shuffle_sequence_dict")
def test_inputs_are_prepared_once_a_micro_batch_and_shuffled_once_a_step(calls: Calls) -> None:
    assert len(calls["_prepare_inputs"]) == PROMPTS * (STEPS + 1)
    assert {len(chunk["prompt_ids"]) for _, chunk in calls["_prepare_inputs"]} == {GROUP}
    assert len(calls["_shuffle_groups"]) == STEPS + 1
    given = calls["_shuffle_groups"][0][0]["batch"]
    assert isinstance(given["pixel_values"], list)  # split by row
    from trl.trainer.grpo_trainer import shuffle_sequence_dict

    rows = {"x": torch.arange(9), "y": list(range(9)), "n": torch.tensor(1), "z": None}
    shuffled = shuffle_sequence_dict(rows)
    assert shuffled["x"].tolist() == shuffled["y"] != rows["y"]
    assert shuffled["n"] == 1 and shuffled["z"] is None


@of(f"{GRPO}._get_per_token_logps_and_entropies")
def test_log_probabilities_are_asked_for_by_micro_batch(calls: Calls) -> None:
    asked = calls["_get_per_token_logps_and_entropies"]
    assert len(asked) >= PROMPTS * (STEPS + 1)
    for given, (logps, entropies, aux) in asked:
        n = given["logits_to_keep"]
        assert given["input_ids"].shape == given["attention_mask"].shape
        assert logps.shape == (len(given["input_ids"]), n) and (logps <= 0).all()
        assert entropies is None or entropies.shape == logps.shape
        assert aux is None
        assert {"pixel_values", "image_grid_thw", "num_images"} <= given["images"].keys()


@of(f"{GRPO}._compute_loss", f"{GRPO}._metrics")
def test_the_loss_is_computed_of_a_micro_batch(calls: Calls) -> None:
    batches = [given["inputs"] for given, _ in calls["_compute_loss"]]
    assert [len(batch["advantages"]) for batch in batches] == [GROUP] * PROMPTS * (STEPS + 1)
    assert set(calls.trainer._metrics) == {"train", "eval"}


@of(f"{GRPO}._tokenize_prompts", f"{GRPO}._generate_single_turn")
def test_one_turn_is_generated_from_token_ids(calls: Calls) -> None:
    (given, (ids, *_)), *_ = calls["_tokenize_prompts"]
    assert given["prompts"][0][0]["role"] in ("system", "user")
    (turn, (completions, logprobs)), *_ = calls["_generate_single_turn"]
    assert turn["prompt_ids"] == ids and len(turn["images"]) == len(ids) == PROMPTS * GROUP
    assert {len(row) for row in turn["images"]} == {1}
    assert len(completions) == len(ids) and max(map(len, completions)) <= WIDTH
    assert logprobs is None


@of(f"{GRPO}._calculate_rewards", f"{GRPO}._log_metric")
def test_rewards_are_computed_of_chats_and_figures_are_logged(calls: Calls) -> None:
    for given, rewards in calls["_calculate_rewards"]:
        assert isinstance(given["completions"][0][0]["content"], str)
        assert "sample" in given["inputs"][0]
        assert rewards.shape == (PROMPTS * GROUP, 2)
    assert "readable" in {given["name"] for given, _ in calls["_log_metric"]}
    row = (calls.recipe.out / "metrics.jsonl").read_text()
    assert '"readable"' in row


@of(f"{GRPO}._get_train_sampler")
def test_the_sampler_repeats_each_prompt(calls: Calls) -> None:
    sampler = calls["_get_train_sampler"][0][1]
    order = list(sampler)
    assert len(set(order[:GROUP])) == 1 and order[0] != order[GROUP]
    sampler.set_epoch(1)
    later = list(sampler)
    sampler.set_epoch(1)
    assert later == list(sampler)


@of(f"{GRPO}._load_optimizer_and_scheduler", f"{TRAINER}._load_from_checkpoint")
def test_a_resumed_run_loads_weights_and_then_the_optimizer(calls: Calls) -> None:
    last = str(calls.recipe.out / "checkpoints" / f"checkpoint-{STEPS}")
    assert [given for given, _ in calls["_load_from_checkpoint"]] == [
        {"resume_from_checkpoint": last}
    ]
    assert [given["checkpoint"] for given, _ in calls["_load_optimizer_and_scheduler"]][-1] == last


@of(f"{TRAINER}._save_checkpoint", f"{TRAINER}._save")
def test_checkpoints_are_written_where_they_are_looked_for(calls: Calls) -> None:
    assert len(calls["_save_checkpoint"]) >= STEPS + 1
    folder = calls.recipe.out / "checkpoints" / f"checkpoint-{STEPS}"
    assert {"optimizer.pt", "trainer_state.json", "model.safetensors"} <= {
        path.name for path in folder.iterdir()
    }
    assert str(folder) in [given["output_dir"] for given, _ in calls["_save"]]


@of(f"{TRAINER}.create_optimizer", f"{TRAINER}.log")
def test_one_optimizer_is_made_and_every_step_logged(calls: Calls) -> None:
    assert all(isinstance(made, torch.optim.Optimizer) for _, made in calls["create_optimizer"])
    losses = [given["logs"] for given, _ in calls["log"] if "loss" in given["logs"]]
    assert len(losses) == STEPS + 1


@of(f"{GRPO}._step", f"{GRPO}._buffered_inputs")
def test_micro_batches_are_counted_and_kept(calls: Calls) -> None:
    trainer = calls.trainer
    assert trainer._step == PROMPTS  # since the resume
    assert len(trainer._buffered_inputs) == trainer.args.steps_per_generation


# --- vLLM -------------------------------------------------------------------------------------


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


@of("peft.tuners.tuners_utils.check_target_module_exists")
def test_adapters_say_which_modules_they_take() -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    config = LoraConfig(target_modules=["q_proj"])
    assert check_target_module_exists(config, "model.layers.0.q_proj")
    assert not check_target_module_exists(config, "lm_head")


def test_every_name_has_a_test_of_what_it_does() -> None:
    assert {name.whole for name in NAMES} == COVERED
