"""What a named benchmark is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Part:
    """One annotations file of a benchmark.

    Attributes:
        name: of the part; unique in its benchmark.
        annotations: file or folder, relative to the data root; `*` stands for any name. Of
            several, the first that exists.
        images: folder that image paths start from; as above.
        options: of the reader.
        files: what lies in a folder of annotations.
    """

    name: str
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """One published result.

    Attributes:
        model: what was evaluated.
        figures: by name, in percent.
        source: where it stands.
        remark: what is known of the protocol, or does not fit.
    """

    model: str
    figures: Mapping[str, float]
    source: str
    remark: str = ""


class Mean(NamedTuple):
    """A figure that is the mean over groups of parts, of each the mean over its parts.

    Attributes:
        figure: of each part: `mAP`, `NMS-AP`, or a share of `boxrl.evaluate.summary`.
        groups: names of parts.
    """

    figure: str
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named benchmark.

    Attributes:
        name: key in BENCHMARKS.
        title: what it is, in a few words.
        reader: key in `boxrl.data.READERS`.
        parts: its annotations files.
        modes: which labels a prompt may ask for, the default first; empty where there is no choice.
        mode_option: the reader's option that takes the mode.
        figure: the main figure, a key of the metrics, or of the summary over parts.
        protocol: how it is scored, and where that is boxrl's choice.
        published: numbers in print, each with its source.
        protocols: other ways of reading and scoring, by name.
        headline: column and figure of its table, the main one first; empty: the main figure and
            those that are published.
        means: the means over several parts that it reports, by figure.
        prompt: what its questions are put by, where that is not the usual one.
    """

    name: str
    title: str
    reader: str
    parts: tuple[Part, ...]
    figure: str
    protocol: str
    modes: tuple[str, ...] = ()
    mode_option: str = "mode"
    published: tuple[Published, ...] = ()
    protocols: tuple[str, ...] = ()
    headline: tuple[tuple[str, str], ...] = ()
    means: Mapping[str, Mean] = field(default_factory=dict)
    prompt: str | None = None


def located(root: Path, paths: tuple[str, ...]) -> Path:
    """The first of the paths that means one file or folder.

    Args:
        root: the data root.
        paths: from it; `*` stands for any name.

    Raises:
        UsageError: none is there, or a pattern means several.
    """
    for path in paths:
        found = sorted(root.glob(path)) if "*" in path else [root / path]
        if len(found) > 1:
            raise UsageError(f"{root / path} found {len(found)} times; expected one")
        if found and found[0].exists():
            return found[0]
    raise UsageError(f"{root / paths[0]} is missing")
