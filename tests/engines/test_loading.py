"""Model folders that cannot be trained: one line before anything is read or written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from boxrl.cli import main  # noqa: E402
from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines import loading  # noqa: E402
from boxrl.engines.loading import load, load_processor  # noqa: E402
from boxrl.errors import MissingExtra, UsageError  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.random_models import save_folder  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    """A language model without vision, as transformers saves it."""
    config = Qwen2Config(
        vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "text")
    AutoTokenizer.from_pretrained(model_folder("tiny")).save_pretrained(tmp_path / "text")
    return tmp_path / "text"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "a model without vision (model_type 'qwen2', no vision_config in config.json)"),
        (["family=qwen2.5-vl"], "model_type 'qwen2' is not a vision-language model"),
        (["family=plain", "--dry-run"], "model_type 'qwen2' is not a vision-language model"),
    ],
)
def test_a_model_without_vision(
    more: list[str],
    words: str,
    text_model: Path,
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(tiny_recipe(scene_folder, tmp_path / "run")))
    assert main(["train", str(recipe), f"model={text_model}", *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"boxrl: {text_model}: {words}")
    assert told.count("\n") == 1
    assert "such as Qwen2.5-VL" in told
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_torch_does_not_see_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch built without CUDA, or a driver too old: it ended in a traceback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"device cuda: torch .* sees no GPU; boxrl doctor env"):
        load("tiny", device="cuda")


def test_without_torchvision_nothing_is_loaded_and_its_install_line_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "repair_torchvision", lambda: False)
    with pytest.raises(MissingExtra, match=r'pip install "boxrl\[train\]"'):
        loading.load("tiny")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("generation_config.json", {"eos_token_id": None}, "eos_token_id is None; expected the"),
        ("generation_config.json", {"eos_token_id": "x"}, "eos_token_id is 'x'; expected the"),
        ("processor_config.json", {"image_mean": []}, "not a vision-language model"),
        ("processor_config.json", {"resample": 77}, "77"),
        ("processor_config.json", {"merge_size": "x"}, "'x' is not a pixel count"),
        ("processor_config.json", {"size": 7}, "7 is not an object"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "not a vision-language model"),
    ],
)
def test_a_model_with_an_unusable_setting(
    file: str,
    change: dict[str, object],
    words: str,
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = copy_with(file, change, tmp_path / "model")
    assert predict(folder, scene_folder, tmp_path / "predictions.jsonl") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"boxrl: {folder}")
    assert words in told
    assert not (tmp_path / "predictions.jsonl").exists()


@pytest.mark.parametrize(
    ("kept", "prefix", "words"),
    [
        (-1, "", r"1 of the model's 92 weights are not in it \(.*\), and would be drawn by chance"),
        (None, "base_model.model.", r"92 of .*, and 'base_model\.model\..*' is\), and would be"),
    ],
)
def test_a_folder_without_some_weights_or_with_other_names_for_them(
    kept: int | None, prefix: str, words: str, tmp_path: Path
) -> None:
    """transformers draws such weights by chance, and its warning is not shown."""
    folder = Path(shutil.copytree(model_folder("tiny"), tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    some = {prefix + name: x for name, x in [*weights.items()][:kept]}
    save_file(some, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=f"^{folder}: {words}"):
        load(folder, threads=1)


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_token(
    scene_folder: Path, tmp_path: Path
) -> None:
    folder = copy_with("tokenizer_config.json", {"pad_token": None}, tmp_path / "model")
    for model, name in ((folder, "without.jsonl"), (model_folder("tiny"), "with.jsonl")):
        assert predict(model, scene_folder, tmp_path / name) == 0
    assert (tmp_path / "without.jsonl").read_text() == (tmp_path / "with.jsonl").read_text()


def copy_with(file: str, change: dict[str, object], folder: Path) -> Path:
    """The tiny model with settings changed in one of its files."""
    shutil.copytree(model_folder("tiny"), folder)
    settings = json.loads((folder / file).read_text())
    inner = settings["image_processor"] if file == "processor_config.json" else settings
    inner |= change
    (folder / file).write_text(json.dumps(settings))
    return folder


def predict(model: Path, scenes: Path, out: Path) -> int:
    """`boxrl predict` of two scenes."""
    call = ["predict", "--model", model, "--samples", scenes / "samples.jsonl", "--images",
            scenes / "images", "--limit", "2", "--max-new-tokens", "4", "--out", out]  # fmt: skip
    return main([str(word) for word in call])


@pytest.mark.parametrize("where", [(), ("text_config",), ("vision_config",)])
@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation"]
)
def test_no_folder_names_the_code_that_computes_attention(
    key: str, where: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be a kernel of the hub."""
    from transformers import PreTrainedModel

    asked: list[object] = []
    check = PreTrainedModel._check_and_adjust_attn_implementation

    def spy(model: object, wanted: object, *rest: object, **options: object) -> object:
        asked.append(wanted)
        return check(model, wanted, *rest, **options)

    monkeypatch.setattr(PreTrainedModel, "_check_and_adjust_attn_implementation", spy)
    folder = shutil.copytree(model_folder("tiny"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    section = config
    for name in where:
        section = section.setdefault(name, {})
    section[key] = "evilorg/evilkernel"
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = loading.load(str(folder), device="cpu")
    assert asked
    assert "evilorg/evilkernel" not in asked
    assert model.config._attn_implementation == loading.load("tiny")[0].config._attn_implementation


def test_a_tokenizer_is_what_its_file_says_whatever_the_models_type(tmp_path: Path) -> None:
    """For Qwen3.5's type transformers takes a class that splits texts in its own way."""
    folder = save_folder("qwen3.5", tmp_path)
    text = "<think>2 red circle</think>\n<answer>None</answer>"
    packaged = load_processor(model_folder("tiny")).tokenizer(text)["input_ids"]
    assert load_processor(folder).tokenizer(text)["input_ids"] == packaged
    settings = folder / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("TokenizersBackend", "Qwen3_5Tokenizer"))
    assert len(load_processor(folder).tokenizer(text)["input_ids"]) > len(packaged)
