"""Files made to run code, to fill the memory or to leak a key: nothing of it happens."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tests.faults.campaign import Record, limit, run, start
from tests.faults.test_damage import CALLS
from tests.faults.warm import Warm
from tests.support.chat_server import chat_server

pytestmark = pytest.mark.slow

FAULT = "hostile file"
KEY = "sk-Zq7xvN0pKey31415926"


class Trap:
    """A pickle of it creates the file when it is read by pickle.load."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that a trap creates when it is sprung."""
    return tmp_path / "sprung"


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("calls a function", "name: !!python/object/apply:pathlib.Path.touch [sprung]\n"),
        ("ten billion laughs", LAUGHS + "name: *j\n"),
        ("laughs in a known key", LAUGHS + "train: {trl: *j}\n"),
        ("laughs in a list of texts", LAUGHS + "rewards: *j\n"),
        ("nested 200,000 deep", "[" * 200_000),
    ],
)
def test_a_recipe(kind: str, text: str, tmp_path: Path, record: Record) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    memory = limit(resource.RLIMIT_AS, 2 * 2**30)
    call = ["validate", recipe]
    how = f"a recipe: {kind}"
    record.refused(FAULT, how, call, "recipe.yaml", preexec_fn=memory, cwd=tmp_path)
    assert not (tmp_path / "sprung").exists()


def model_with_code(model: Path, sprung: Path) -> None:
    code = f"from pathlib import Path\nPath({str(sprung)!r}).touch()\nclass Evil: pass\n"
    (model / "evil.py").write_text(code)
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}
    (model / "config.json").write_text(json.dumps(config))


def processor_with_code(model: Path, sprung: Path) -> None:
    model_with_code(model, sprung)
    config = json.loads((model / "config.json").read_text()) | {"model_type": "qwen2_5_vl"}
    (model / "config.json").write_text(json.dumps(config))
    for name in ("processor_config.json", "tokenizer_config.json"):
        found = json.loads((model / name).read_text())
        found["auto_map"] = {"AutoProcessor": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
        found |= {"processor_class": "Evil", "tokenizer_class": "Evil"}
        (model / name).write_text(json.dumps(found))


def pickled_weights(model: Path, sprung: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Trap(sprung)}))


def template_that_reaches_out(model: Path, sprung: Path) -> None:
    text = "{{ cycler.__init__.__globals__.os.system('touch " + str(sprung) + "') }}"
    (model / "chat_template.jinja").write_text(text)


MODELS = {
    "code of its own": model_with_code,
    "a processor with code of its own": processor_with_code,
    "weights that are a hostile pickle": pickled_weights,
    "a chat template that reaches for os.system": template_that_reaches_out,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_folder(kind: str, copy: Path, sprung: Path, warm: Warm, record: Record) -> None:
    MODELS[kind](copy / "model", sprung)
    outcome = warm.run(*CALLS["predict"], "--family", "qwen2.5-vl", cwd=copy)
    assert not sprung.exists()
    assert "Traceback" not in outcome.err, outcome.err[-3000:]
    lost = [sprung] if sprung.exists() else []
    record(FAULT, "predict", f"a model folder with {kind}", outcome.line, lost, 1, "traps unsprung")


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth",
                                  "training_args.bin"])  # fmt: skip
def test_a_checkpoint(
    file: str, site: Path, tmp_path: Path, sprung: Path, warm: Warm, record: Record
) -> None:
    out = tmp_path / "run"
    small = ("train.max_steps=3", "train.save_steps=2", f"out={out}")
    assert warm.run("train", site / "recipe.yaml", *small).status == 0
    shutil.rmtree(out / "checkpoints" / "checkpoint-3", ignore_errors=True)
    torch.save({"state": Trap(sprung)}, out / "checkpoints" / "checkpoint-2" / file)
    outcome = warm.run("train", site / "recipe.yaml", *small, "--resume")
    assert not sprung.exists()
    assert "Traceback" not in outcome.err, outcome.err[-3000:]
    lost = [sprung] if sprung.exists() else []
    record(FAULT, "train --resume", f"{file} that is a hostile pickle", outcome.line, lost, 1,
           "traps unsprung")  # fmt: skip


def test_an_image_in_a_format_that_starts_programs_is_not_opened(
    copy: Path, warm: Warm, record: Record
) -> None:
    image = copy / "scenes/images/tests-5-00000.png"
    image.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 112\n%%EndComments\n")
    for verb in ("data lint", "predict"):
        outcome = warm.run(*CALLS[verb], cwd=copy)
        assert outcome.status == 1
        assert "image" in outcome.err + outcome.out
        record(FAULT, verb, "an EPS named .png", outcome.line, [], 1, "programs not started")


def test_a_key_stands_in_no_file_and_no_output(site: Path, tmp_path: Path, record: Record) -> None:
    """Predict by a server that repeats the key, evaluate, report, train: the folder is searched."""
    folder = tmp_path / "run"
    folder.mkdir()
    secrets = {"OPENAI_API_KEY": KEY, "HF_TOKEN": f"hf_{KEY}", "WANDB_API_KEY": f"wb{KEY}"}
    samples, images = site / "scenes/samples.jsonl", site / "scenes/images"
    printed = ""
    predictions = folder / "evals/served/predictions.jsonl"
    with chat_server(lambda n, _: "400" if n % 4 == 3 else None, f"bad key {KEY}") as server:
        for call in (
            ["predict", "--engine", "openai", "--model", "m", "--family", "plain", "--samples",
             samples, "--images", images, "--base-url", server.url, "--out", predictions],
            ["evaluate", "--samples", samples, "--predictions", predictions, "--resamples", 10,
             "--out", folder / "evaluation"],
            ["train", site / "recipe.yaml", "train.save_steps=1", f"out={folder / 'trained'}"],
            ["report", folder / "trained"],
            ["report", folder, "--export", folder / "export"],
            ["predict", "--engine", "openai", "--model", "m", "--family", "plain", "--samples",
             samples, "--images", images, "--base-url", f"{server.url}?key={KEY}", "--out",
             folder / "p.jsonl"],
        ):  # fmt: skip
            outcome = run(*call, variables=secrets)
            assert "Traceback" not in outcome.err, outcome.err[-3000:]
            printed += outcome.out + outcome.err
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    leaks: list[object] = [path for path in files if KEY.encode() in path.read_bytes()]
    leaks += [KEY] if KEY in printed else []
    how = "a key in the environment, a server that repeats it"
    record("key", "predict, evaluate, train, report", how, outcome.line, leaks, len(files),
           "files without the key")  # fmt: skip


def test_servers_listen_on_loopback_only(site: Path, tmp_path: Path, record: Record) -> None:
    with (tmp_path / "out").open("wb") as output:
        process = start("report", site / "run", "--live", output=output)
        while b"http://" not in (tmp_path / "out").read_bytes():
            assert process.poll() is None, (tmp_path / "out").read_text()
        tables = [Path(f"/proc/{process.pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
        inodes = {path.readlink().name for path in Path(f"/proc/{process.pid}/fd").iterdir()
                  if str(path.readlink()).startswith("socket:")}  # fmt: skip
        process.terminate()
        process.wait()
    sockets = {name[8:-1] for name in inodes}
    listening = [row.split() for table in tables for row in table.splitlines()[1:]]
    mine = [row[1] for row in listening if row[3] == "0A" and row[9] in sockets]
    assert mine
    lost = [address for address in mine if not address.startswith("0100007F:")]
    told = (tmp_path / "out").read_text().splitlines()[-1]
    record("loopback", "report --live", "sockets of the process", told, lost, len(mine), "sockets")
