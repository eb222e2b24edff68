"""Models by hub id, through the real huggingface_hub against a hub on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxrl.config import is_hub_id
from boxrl.generation.model_folders import PACKAGED
from tests.support.fake_hub import FakeHub, fake_hub

pytest.importorskip("huggingface_hub")

MIB = 2**20
LOAD = """
import sys, time
if "--at-once" in sys.argv:
    time.sleep = lambda seconds: None  # which the hub's library waits between its tries
from boxrl.errors import BoxrlError, require_train_extra
from boxrl.generation.model_folders import config_folder, model_folder
if "--after-torch" in sys.argv:
    require_train_extra("a test")
try:
    print((config_folder if "--configs" in sys.argv else model_folder)(sys.argv[1]))
except BoxrlError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder beside what is not fetched: code, pickles and other formats."""
    folder = shutil.copytree(PACKAGED["tiny"], tmp_path_factory.mktemp("hub") / "tiny")
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(model: Path) -> Iterator[FakeHub]:
    with fake_hub(me__tiny=model, me__other=model) as found:
        yield found


def run(hub: FakeHub, home: Path, code: str, *words: str, **env: str) -> tuple[str, str, int]:
    """(standard output, standard error, exit status) of a process with a cache of its own."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("HF_", "TRANSFORMERS_", "BOXRL_"))}  # fmt: skip
    env = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)} | env
    call = [sys.executable, "-c", code, *words]
    found = subprocess.run(call, capture_output=True, text=True, env=env)
    return found.stdout.strip(), found.stderr, found.returncode


def load(hub: FakeHub, home: Path, model: str, *words: str, **env: str) -> tuple[str, str, int]:
    """A process that wants the model."""
    return run(hub, home, LOAD, model, *words, **env)


def line(error: str) -> str:
    """The one line that a user reads behind progress bars."""
    *_, last = error.strip().splitlines()
    assert "Traceback" not in error
    return last


def test_a_model_is_fetched_once_with_a_bar_and_never_asked_for_again(
    hub: FakeHub, tmp_path: Path, model: Path
) -> None:
    folder, said, status = load(hub, tmp_path, "me/tiny", "--after-torch")
    assert status == 0, said
    assert "100%" in said
    names = {path.name for path in Path(folder).iterdir()}
    assert "model.safetensors" in names
    assert not names & {"modeling.py", "pytorch_model.bin", "onnx"}
    asked = len(hub.asked)
    assert load(hub, tmp_path, "me/tiny")[0] == folder
    assert load(hub, tmp_path, "me/tiny", HF_HUB_OFFLINE="1")[0] == folder
    assert len(hub.asked) == asked


def fetched_weights(hub: FakeHub) -> list[str]:
    """Paths of weights that were sent."""
    gets = (path for method, path, _ in hub.asked if method == "GET")
    return [path for path in gets if path.endswith(".safetensors")]


def test_who_reads_configs_alone_fetches_no_weights(hub: FakeHub, tmp_path: Path) -> None:
    folder, said, status = load(hub, tmp_path, "me/tiny", "--configs")
    assert status == 0, said
    assert {"config.json", "tokenizer.json"} <= {path.name for path in Path(folder).iterdir()}
    asked = len(hub.asked)
    assert load(hub, tmp_path, "me/tiny", "--configs", HF_HUB_OFFLINE="1")[0] == folder
    assert (len(hub.asked), fetched_weights(hub)) == (asked, [])
    assert load(hub, tmp_path, "me/tiny")[0] == folder  # the weights join them
    assert len(fetched_weights(hub)) == 1


def test_configs_of_an_interrupted_download_are_no_model(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_at = {"tokenizer.json": [1000] * 9}
    words = ("--configs", "--at-once")
    _, said, status = load(hub, tmp_path, "me/tiny", *words, HF_HUB_DOWNLOAD_TIMEOUT="2")
    assert (status, "run the same command again" in line(said)) == (1, True)
    _, said, _ = load(hub, tmp_path, "me/tiny", "--configs", HF_HUB_OFFLINE="1")
    assert "not in the hub's cache" in line(said)


def test_a_config_that_another_program_fetched_says_nothing_of_sizes(
    hub: FakeHub, tmp_path: Path
) -> None:
    alone = "from huggingface_hub import hf_hub_download; hf_hub_download('me/tiny', 'config.json')"
    assert run(hub, tmp_path, alone)[2] == 0
    _, said, _ = load(hub, tmp_path, "me/tiny", "--configs", HF_HUB_OFFLINE="1")
    assert "not in the hub's cache" in line(said)


COMMAND = "import sys; from boxrl.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_a_recipe_is_written_and_a_step_planned_without_the_weights(
    hub: FakeHub, tmp_path: Path, scene_folder: Path
) -> None:
    pytest.importorskip("torch")
    data = ["--samples", str(scene_folder / "samples.jsonl"), "--images"]
    told, said, status = run(
        hub, tmp_path, COMMAND, "init", *data, str(scene_folder / "images"), "--model", "me/tiny"
    )
    assert status == 0, said
    assert "Warning" not in said
    (tmp_path / "recipe.yaml").write_text(told)
    for words in (["train", str(tmp_path / "recipe.yaml"), "--dry-run"],
                  ["validate", str(tmp_path / "recipe.yaml")]):  # fmt: skip
        _, said, status = run(hub, tmp_path, COMMAND, *words)
        assert status == 0, said
        assert "Warning" not in said
    assert fetched_weights(hub) == []


FAMILY = """
import sys
from boxrl.engines.build import EngineOptions, find_family
from boxrl.errors import BoxrlError
try:
    print(find_family(EngineOptions(sys.argv[1], "openai")).name)
except BoxrlError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_the_hub_says_the_family_of_a_servers_model(hub: FakeHub, tmp_path: Path) -> None:
    for model, told in (("me/tiny", "qwen2.5-vl"), ("me/none", "--family")):
        out, said, _ = run(hub, tmp_path, FAMILY, model)
        assert told in out or told in line(said)
    assert fetched_weights(hub) == []


def test_offline_nothing_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        _, said, status = load(hub, tmp_path, "me/tiny", "--after-torch", **{name: "1"})
        assert status == 1
        assert "not in the hub's cache, and HF_HUB_OFFLINE is set" in line(said)
    assert hub.asked == []


def test_a_download_that_broke_off_goes_on(hub: FakeHub, tmp_path: Path, model: Path) -> None:
    large = shutil.copytree(model, tmp_path / "large")
    with (large / "model.safetensors").open("ab") as weights:
        weights.write(os.urandom(24 * MIB))
    hub.models["me/large"] = large
    hub.cut_at = {"model.safetensors": [15 * MIB] * 9}
    _, said, status = load(hub, tmp_path, "me/large", "--at-once", HF_HUB_DOWNLOAD_TIMEOUT="2")
    assert status == 1
    assert "run the same command again" in line(said)
    hub.cut_at = {}
    folder, said, status = load(hub, tmp_path, "me/large")
    assert status == 0, said
    spans = [span for _, path, span in hub.asked if path.endswith("safetensors") and span]
    assert spans[-1] != "bytes=0-"
    fetched = (Path(folder) / "model.safetensors").read_bytes()
    assert fetched == (large / "model.safetensors").read_bytes()


def test_a_cache_that_is_not_whole_is_no_model(hub: FakeHub, tmp_path: Path) -> None:
    folder = Path(load(hub, tmp_path, "me/tiny")[0])
    (folder / "model.safetensors").unlink()
    _, said, _ = load(hub, tmp_path, "me/tiny", HF_HUB_OFFLINE="1")
    assert "not in the hub's cache" in line(said)
    assert load(hub, tmp_path, "me/tiny")[0] == str(folder)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((401, "RepoNotFound"), "no such model, or it is private"),
        ((404, "RepoNotFound"), "no such model, or it is private"),
        ((403, "GatedRepo"), "accept its terms at https://huggingface.co/me/other"),
        ((500, ""), "cannot be reached"),
    ],
)
def test_a_refusal_is_one_line(
    hub: FakeHub, tmp_path: Path, refusal: tuple[int, str], said: str
) -> None:
    hub.refused = {"me/other": refusal}
    _, error, status = load(hub, tmp_path, "me/other", "--at-once")
    assert status == 1
    assert said in line(error)
    assert line(error).count("me/other") >= 1


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    _, error, _ = load(FakeHub({}, url="http://127.0.0.1:9"), tmp_path, "me/tiny", "--at-once")
    assert "the hub cannot be reached" in line(error)


def test_a_disk_that_is_too_small_is_told_before_the_download(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import shutil\nshutil.disk_usage = lambda path: type('Usage', (), {'free': 100})\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    _, error, _ = load(hub, tmp_path / "home", "me/tiny", PYTHONPATH=path)
    assert "GB are free; free some, or set HF_HOME to a larger disk" in line(error)
    assert fetched_weights(hub) == []


def test_a_repository_without_a_model_is_told(hub: FakeHub, tmp_path: Path, model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    hub.models["me/empty"] = empty
    assert "expected config.json, preprocessor" in line(load(hub, tmp_path, "me/empty")[1])


def test_an_id_is_owner_and_name_where_no_such_folder_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("Qwen/Qwen2.5-VL-3B-Instruct")
    (tmp_path / "models").mkdir()
    for name in ("models/Qwen", "tiny", "/a/b", "a/b/c", "../a", "./a", "a/b c", "~/model"):
        assert not is_hub_id(name)


PUSH = """
import sys
from pathlib import Path
from boxrl.errors import BoxrlError
from boxrl.generation.hub import push_folder
try:
    print(push_folder(Path(sys.argv[1]), "me/mine", private=True))
except BoxrlError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def push(hub: FakeHub, home: Path, folder: Path, **env: str) -> tuple[str, str, int]:
    return run(hub, home, PUSH, str(folder), HF_HUB_DISABLE_XET="1", **env)


def test_a_model_folder_is_put_onto_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [boxrl]\n---\n")
    (folder / "config.json").write_text("{}")
    _, said, status = push(hub, tmp_path, folder)
    assert (status, "hf auth login" in line(said)) == (1, True)
    _, said, status = push(hub, tmp_path, folder, HF_TOKEN="hf_x", HF_HUB_OFFLINE="1")
    assert "so nothing is sent" in line(said)
    where, said, status = push(hub, tmp_path, folder, HF_TOKEN="hf_x")
    assert status == 0, said
    assert where == f"{hub.url}/me/mine"
    assert hub.created[0]["visibility"] == "private"
    assert hub.committed == {
        "README.md": (folder / "README.md").read_bytes(),
        "config.json": b"{}",
    }
