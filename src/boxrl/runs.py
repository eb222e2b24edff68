"""Run folders: who made them, with what, and whether they may be written to.

RUN/
run.json          name, method, model, status, evals, pairs
recipe.yaml       the resolved recipe
environment.json  versions, platform, git commit
data/             samples (and images, where they are synthetic)
metrics.jsonl     one row per step          completions.jsonl  sampled completions
checkpoints/      to resume from            model/             the final weights
average/          the mean of the last weights, where the recipe asks for it
evals/NAME/       one evaluation: predictions.jsonl, predictions.meta.json, rows.jsonl, metrics.json
compare.json      paired differences        report.html
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import yaml

from boxrl import __version__
from boxrl.data.files import is_held, is_whole, open_locked, write_atomic, write_json
from boxrl.errors import BoxrlError, UsageError
from boxrl.guard.files import check_links, inside, parse_yaml, read_bytes, read_json_object

MAY_CHANGE = frozenset({"out", "train.micro_batch_prompts", "engine.threads"})
"""Settings that a resumed run may change: where it lies and how a step is cut up, not what is
learned. After running out of memory, fewer prompts at a time are the way on."""

MAY_GROW = "train.max_steps"
"""The setting that a resumed run may raise, which trains it further."""

AVERAGE = "average"
"""Folder in a run of the mean of its last weights."""

LOCK = ".lock"
"""Held in a run folder for as long as its process lives."""

LAUNCHED = "BOXRL_LAUNCHED"
"""Environment variable: `boxrl train --launch` started this process and goes on where it ends."""

PATIENCE_S = 0.5
"""For `read_facts` of another process, which takes the lock for a moment to see whether it can."""

PACKAGES = (
    "numpy", "hotcoco", "torch", "torchvision", "transformers", "trl", "accelerate", "peft",
    "datasets",
)  # fmt: skip


class Launch(NamedTuple):
    """This process among those that one launcher started.

    Attributes:
        rank: 0 for the first, which keeps the run folder.
        world: how many there are; 1 without a launcher.
        local_rank: 0 for the first on its machine.
    """

    rank: int
    world: int
    local_rank: int = 0

    @classmethod
    def read(cls) -> Launch:
        """What torchrun and accelerate say in the environment."""
        said = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
        return cls(*(int(os.environ.get(name, default)) for name, default in said))

    @property
    def is_first(self) -> bool:
        """Whether this process keeps the run folder."""
        return self.rank == 0


class Run:
    """An open run folder; a second process that opens it is told."""

    def __init__(self, path: Path, recipe: str, facts: dict[str, Any], resume: bool) -> None:
        """Create the folder, or open it again.

        Args:
            path: the run folder.
            recipe: the resolved recipe's YAML text.
            facts: what run.json says beside the status: name, method, model, ...
            resume: continue a run that was interrupted.

        Raises:
            UsageError: the folder holds another run or other files, there is nothing to resume,
                or another process is writing to it. Nothing is changed then.
            DataError: a link in it leads elsewhere.
        """
        self.path = path
        check_links(path)
        self._check(recipe, resume)
        self._is_new = not (path / "run.json").is_file()
        path.mkdir(parents=True, exist_ok=True)
        self._lock = open_locked(path / LOCK, path, PATIENCE_S)
        if self._is_new:
            with write_atomic(path / "recipe.yaml") as handle:
                handle.write(recipe)
            write_json(path / "run.json", facts)
            write_json(path / "environment.json", run_environment())
        elif grows(read_bytes(path / "recipe.yaml").decode("utf-8", "replace"), recipe):
            with write_atomic(path / "recipe.yaml") as handle:
                handle.write(recipe)
        self.update(status="running")

    def _check(self, recipe: str, resume: bool) -> None:
        if not self.path.exists() or all(p.name.startswith(".") for p in self.path.iterdir()):
            if resume:
                raise UsageError(f"{self.path}: nothing to resume; leave --resume out")
            return
        if not (self.path / "run.json").is_file():
            raise UsageError(f"{self.path}: is not empty and holds no run; choose another folder")
        status = self.facts.get("status")
        if not resume:
            raise UsageError(
                f"{self.path}: holds another run ({self.facts.get('name')}, {status}); "
                "choose another folder, --resume to continue this one, or --replace to delete it"
            )
        own = read_bytes(self.path / "recipe.yaml").decode("utf-8", "replace")
        if changed := differences(own, recipe):
            raise UsageError(
                f"{self.path / 'recipe.yaml'}: was started with another recipe: {changed}; "
                "resume with its own values or choose another folder"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says."""
        return read_facts(self.path / "run.json")

    def update(self, **facts: Any) -> None:
        """Change facts in run.json."""
        write_json(self.path / "run.json", self.facts | facts)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.update(status="done")
        elif self._is_new and isinstance(error, BoxrlError) and not self._has_results():
            # A start that failed must not stand in the way of the corrected command.
            shutil.rmtree(self.path)
        else:
            with contextlib.suppress(BoxrlError):  # a full disk must not hide what ended the run
                self.update(status="interrupted")
        self._lock.close()

    def _has_results(self) -> bool:
        """Whether it holds more than answers of the model that it would have started from."""
        if any((self.path / name).exists() for name in ("metrics.jsonl", "model")):
            return True
        return any(path.name != START for path in self.path.glob("evals/*"))


START = "before"
"""Name of the evaluation of the model that a training starts from."""

PARTS = (
    "recipe.yaml", "environment.json", "data", "metrics.jsonl", "completions.jsonl",
    "validation.jsonl", "checkpoints", "adapter", "model", AVERAGE, "evals", "compare.json",
    "report.html", "report_files", "run.json",
)  # fmt: skip
"""What a run writes into its folder; run.json is removed last, so that until then it is a run."""


def clear_run(path: Path) -> None:
    """Remove what a run left in its folder, so that another can begin there.

    Args:
        path: the folder; one that holds no run is left as it is.

    Raises:
        UsageError: another process is writing to it, or it holds files that no run wrote.
        DataError: a link in it leads elsewhere.
    """
    if not (path / "run.json").is_file():
        return
    check_links(path)
    own = {part.name for part in path.iterdir() if not part.name.startswith(".")} - set(PARTS)
    if own:
        raise UsageError(
            f"{path}: holds {min(own)}, which no run wrote; move it away or choose another folder"
        )
    with open_locked(path / LOCK, path):
        for name in PARTS:
            part = path / name
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, Any]:
    """What a run's run.json says; a run whose process was killed is interrupted.

    Args:
        path: of run.json.

    Raises:
        DataError: it cannot be read.
    """
    facts = read_json_object(path)
    if facts.get("status") == "running" and is_held(path.with_name(LOCK)) is False:
        facts["status"] = "interrupted"
    return facts


def note_end(folder: Path) -> None:
    """Write down that a run is interrupted, where its process was killed before it could.

    Args:
        folder: of the run, or one in which none has begun.
    """
    path = folder / "run.json"
    if path.is_file():
        write_json(path, read_facts(path))


def differences(own: str, other: str) -> str:
    """The settings in which two recipes differ, as `key: 0.1, now 0.2`; "" where in none.

    Args:
        own: YAML of the recipe that began.
        other: YAML of the one that goes on; those of MAY_CHANGE may differ, that of MAY_GROW may
            be higher.
    """
    if own == other:
        return ""
    try:
        before, now = (dict(_settings(parse_yaml(text))) for text in (own, other))
    except yaml.YAMLError:
        return "it is damaged"
    may_change = MAY_CHANGE | ({MAY_GROW} if grows(own, other) else set())
    keys = [key for key in {**before, **now} if key not in may_change]
    changed = [key for key in keys if before.get(key) != now.get(key)]
    return ", ".join(f"{k}: {before.get(k, 'unset')}, now {now.get(k, 'unset')}" for k in changed)


def grows(own: str, other: str) -> bool:
    """Whether a run that goes on is to train further than it was begun for.

    Args:
        own: YAML of the recipe that began.
        other: YAML of the one that goes on.
    """
    try:
        then, now = (dict(_settings(parse_yaml(text))).get(MAY_GROW, 0) for text in (own, other))
    except yaml.YAMLError:
        return False
    return is_whole(then) and is_whole(now) and bool(then < now)


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a recipe by dotted key; lists are leaves."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _settings(inner, f"{path}.{key}" if path else str(key))


RUN_PARTS = ("run.json", "metrics.jsonl", "evals")
EVALUATION_PARTS = ("predictions.jsonl", "metrics.json", "rows.jsonl")


@dataclass(frozen=True, slots=True)
class FoundRun:
    """What a folder that a user names as a run is.

    Attributes:
        path: the folder.
        is_evaluation: it is one evaluation by itself, as `boxrl evaluate --out` writes it.
        evaluations: folders of the evaluations by name; one that stands alone has its own name.
    """

    path: Path
    is_evaluation: bool
    evaluations: Mapping[str, Path]

    def check_trained(self, purpose: str) -> None:
        """Refuse what no training run left.

        Args:
            purpose: what a training run is needed for, in words.

        Raises:
            UsageError: it has no run.json.
        """
        if not (self.path / "run.json").is_file():
            what = "one evaluation and no run" if self.is_evaluation else "no run"
            raise UsageError(f"{self.path}: holds {what}; {purpose} needs one with run.json in it")


def find_run(path: Path) -> FoundRun:
    """What `report`, `compare`, `watch` and `export` take as a run.

    A run has a run.json, a metrics.jsonl or a folder evals/; a folder with the files of one
    evaluation stands for itself; an empty folder is a run that has not begun.

    Args:
        path: the folder.

    Raises:
        UsageError: no such folder, or it holds files but nothing of a run.
        DataError: an evaluation of it is a link that leads elsewhere.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder")
    held = {name for name in (*RUN_PARTS, *EVALUATION_PARTS) if (path / name).exists()}
    if not held and any(path.iterdir()):
        known = ", ".join((*RUN_PARTS, *EVALUATION_PARTS))
        raise UsageError(f"{path}: holds no run; expected any of {known} in it")
    if held and not held.intersection(RUN_PARTS):
        return FoundRun(path, True, {path.resolve().name: path})
    folder = path / "evals"
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return FoundRun(path, False, {p.name: inside(path, p) for p in found})


def run_of(evaluation: Path) -> Path:
    """The run that an evaluation's folder lies in, RUN of RUN/evals/NAME; else the folder."""
    folder = evaluation if evaluation.parent.name == "evals" else evaluation.resolve()
    return folder.parent.parent if folder.parent.name == "evals" else folder


def path_in_run(evaluation: Path, path: Path) -> str:
    """How an evaluation's folder names a path: from itself or its run where it lies there.

    Args:
        evaluation: the folder.
        path: of a file or folder.

    Returns:
        The relative path, so that both may be moved together; elsewhere the whole one.
    """
    whole = path.resolve()
    for base in (evaluation.resolve(), run_of(evaluation.resolve())):
        if whole.is_relative_to(base):
            return whole.relative_to(base).as_posix()
    return whole.as_posix()


def find_path(evaluation: Path, named: str, cwd: Any = None) -> Path:
    """Where a path lies that a file in an evaluation's folder names.

    The rule for all of them: from the evaluation's folder, else from its run, so that both may be
    moved with their data; else from where the command ran that wrote it, or this one where that
    was not noted down. A whole path is itself.

    Args:
        evaluation: the folder.
        named: the path as it stands there.
        cwd: the working directory of the command that wrote it; what is no text is passed over.

    Returns:
        The first that exists, else where it would be expected: where the command ran, or in the
        run where that was not noted down.
    """
    ran = Path(cwd) if isinstance(cwd, str) else None
    places = [base / named for base in (evaluation, run_of(evaluation), ran or Path())]
    return next((place for place in places if place.exists()), places[2 if ran else 1])


def numbered_folder(path: Path, resume: bool) -> Path:
    """The folder for a run whose recipe names none: `path`, else `path-2`, `path-3`, ...

    Args:
        path: where the first such run lies.
        resume: give the newest folder that exists instead of the first that does not.
    """
    last, number = path, 1
    while True:
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if not folder.exists():
            return last if resume else folder
        last, number = folder, number + 1


def run_environment() -> dict[str, Any]:
    """Versions, platform and, in a git checkout, the commit."""
    return {
        "boxrl": __version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "argv": sys.argv[1:],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that boxrl runs from, `+` when it has changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") or None
