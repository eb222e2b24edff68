"""Adapters from a folder: their weights are loaded, their words about what to load are not.

peft imports modules that an adapter's config names (`auto_mapping`, `megatron_core`) and matches
its patterns against every module. Here a config says how strong an adapter is, and its weights
say where it sits.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from boxrl.data.files import is_number, is_whole
from boxrl.engines.loading import model_errors
from boxrl.errors import UsageError
from boxrl.families.folder import ADAPTER
from boxrl.guard.files import read_json_object

WEIGHTS = "adapter_model.safetensors"

_A = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(A\.weight|embedding_A)")
_REST = re.compile(
    r".+\.(lora_B\.weight|lora_embedding_B|lora_magnitude_vector.*|base_layer\.weight)"
)
_FLAGS = ("use_rslora", "use_dora", "fan_in_fan_out")
_OTHERWISE = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "lora_bias",
    "modules_to_save", "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora",
)  # fmt: skip
"""Settings of adapters that are more than a pair of matrices beside each module."""


def read_adapter(folder: Path) -> Any:
    """The LoraConfig of an adapter folder, as peft takes it.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.

    Raises:
        UsageError: it is no LoRA, holds its weights as a pickle, or does more than LoRA does.
        DataError: the config cannot be read.
    """
    from peft import LoraConfig

    path = folder / ADAPTER
    config = read_json_object(path)
    if config.get("peft_type") != "LORA":
        raise UsageError(f"{path}: peft_type is {config.get('peft_type')!r:.40}; expected LORA")
    used = [key for key in _OTHERWISE if config.get(key)]
    if used or config.get("bias", "none") != "none":
        raise UsageError(f"{path}: {(used or ['bias'])[0]} is set; boxrl merges plain LoRA only")
    ranks = _ranks(folder)
    alphas = config.get("alpha_pattern") or {}
    numbers = [config.get("lora_alpha"), *(alphas.values() if isinstance(alphas, dict) else [None])]
    if not all(map(is_number, numbers)) or not all(map(_is_name, alphas)):
        raise UsageError(f"{path}: lora_alpha and alpha_pattern must be numbers by module")
    return LoraConfig(
        r=max(ranks.values()),
        lora_alpha=config["lora_alpha"],
        rank_pattern=ranks,
        alpha_pattern=alphas,
        target_modules=list(ranks),
        inference_mode=True,
        **{key: bool(config.get(key, False)) for key in _FLAGS},
    )


def put_adapter(model: Any, folder: Path) -> Any:
    """The model under an adapter, every weight of which is in its place.

    peft passes over weights whose modules have other names, as those of another version of
    transformers have, and leaves an adapter without effect where it finds none.

    Args:
        model: of transformers; its modules are replaced.
        folder: of the adapter.

    Raises:
        UsageError: weights are left over, or missing; see `read_adapter`.
    """
    from peft import get_peft_model, load_peft_weights, set_peft_model_state_dict

    config = read_adapter(folder)
    with model_errors(folder):
        found = get_peft_model(model, config)
        result = set_peft_model_state_dict(found, load_peft_weights(str(folder), device="cpu"))
    missing = [name for name in result.missing_keys if ".lora_" in name]
    base = model.name_or_path
    for names, what in (
        (result.unexpected_keys, f"is of no module of {base}"),
        (missing, "is not in it"),
    ):
        if names:
            raise UsageError(
                f"{folder / WEIGHTS}: {names[0]:.120} {what}, so the adapter would be put on in "
                "part; merge it with the versions of peft and transformers that made it"
            )
    return found


def refuse_ends(model: Any, config: Any) -> None:
    """Refuse adapters of the output layer, and of embeddings that are the output layer, too.

    TRL reads the weights of the output layer past its adapter, which would never be trained. Where
    input embeddings are the output layer, too, an adapter of one of them changes one of them alone;
    merged, it changes both.

    Args:
        model: without its adapters, unwrapped.
        config: peft's LoraConfig, or None for none.

    Raises:
        UsageError: the module and the recipe's key.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    if config is None or config.target_modules == "all-linear":
        return  # which leaves the output layer out
    tied = model.all_tied_weights_keys
    for name in sorted(key.removesuffix(".weight") for key in (*tied, *tied.values())):
        if check_target_module_exists(config, name):
            raise UsageError(
                f"train.lora.target_modules: {name} is input embeddings and output layer at once "
                "(tied), and an adapter of one of them cannot be merged; leave "
                f"{name.rpartition('.')[2]} out"
            )
    output = model.get_output_embeddings()
    name = next(name for name, module in model.named_modules() if module is output)
    if check_target_module_exists(config, name):
        raise UsageError(
            f"train.lora.target_modules: TRL reads the weights of {name} past any adapter, which "
            "would never be trained; leave it out"
        )


def _is_name(key: str) -> bool:
    """Whether a key of a pattern is a module's name, and not a search that takes forever."""
    return re.fullmatch(r"[\w.]+", key) is not None


def _ranks(folder: Path) -> dict[str, int]:
    """Rank by full name of every module that the weights adapt."""
    path, ranks, others = folder / WEIGHTS, {}, []
    if not path.is_file():
        raise UsageError(
            f"{folder}: holds no {WEIGHTS}; weights in a pickle (adapter_model.bin) are not read, "
            "save the adapter with safe_serialization=True"
        )
    try:
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if match := _A.fullmatch(name):
                    ranks[match["module"]] = weights.get_slice(name).get_shape()[0]
                elif not _REST.fullmatch(name):
                    others.append(name)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: is damaged ({error})") from error
    if not ranks or not all(is_whole(rank, 1) for rank in ranks.values()):
        raise UsageError(f"{path}: holds no LoRA weights of modules")
    if others:
        raise UsageError(f"{path}: {others[0]:.80} is no LoRA weight; boxrl merges plain LoRA only")
    return ranks
