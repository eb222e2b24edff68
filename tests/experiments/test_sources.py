"""The code's hash: what changes it and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.experiments.sources import code_version


def write_package(folder: Path, **changed: str) -> Path:
    files = {
        "__init__": "if TYPE_CHECKING:\n    from boxrl.report import PAGE\n",
        "engine": "from boxrl import rewards\n\ndef train():\n    from boxrl.deep import data\n",
        "rewards": '"""Rewards."""\nAP = 1\n',
        "report": "PAGE = 1\n",
        "deep/__init__": "",
        "deep/data": "SIZE = 2\n",
    } | {name.replace("__", "/"): text for name, text in changed.items()}
    package = folder / f"{len(list(folder.iterdir()))}" / "boxrl"
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"rewards": '"""Rewards."""\nAP = 2\n'}, False),
        ({"deep__data": "SIZE = 3\n"}, False),  # imported inside a function
        ({"rewards": '"""Other words."""\n# and a remark\nAP = 1\n'}, True),
        ({"report": "PAGE = 2\n"}, True),  # nothing in reach imports it
    ],
)
def test_what_changes_the_hash(tmp_path: Path, change: dict[str, str], same: bool) -> None:
    before, after = write_package(tmp_path), write_package(tmp_path, **change)
    old, new = (code_version("boxrl.engine", package) for package in (before, after))
    assert (old == new) is same


def test_training_depends_on_rewards_and_not_on_reports(tmp_path: Path) -> None:
    import shutil

    import boxrl

    source = Path(boxrl.__file__).parent
    whole = tmp_path / "a" / "boxrl"
    shutil.copytree(source, whole, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    before = code_version("boxrl.engines.training.train", whole)
    for name, same in (("report/build.py", True), ("rewards/localization.py", False)):
        with (whole / name).open("a") as handle:
            handle.write("\nEXTRA = 1\n")
        code_version.cache_clear()
        assert (code_version("boxrl.engines.training.train", whole) == before) is same
