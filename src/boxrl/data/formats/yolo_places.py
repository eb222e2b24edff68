"""Where a YOLO data set has its images, labels and names, as ultralytics and its kin lay it out.

Source: ultralytics 8.4, data/utils.py (`img2label_paths`, `check_det_dataset`) and data/base.py.
Law: labels are read from the folder that was named alone, or where the rule of ultralytics leads
from the image; an image whose label file could be another's is told, never taken for empty.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from boxrl.data.formats.documents import read_document
from boxrl.data.formats.image_folder import IMAGE_SUFFIXES, ImageFolder, fold_path, split_of, walk
from boxrl.errors import DataError, UsageError, did_you_mean
from boxrl.guard.files import parse_yaml_texts

DATA_YAML = "data.yaml"
"""What ultralytics and its kin call it."""

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "notes.json")
"""Where labelImg, CVAT, Roboflow and Label Studio write the names, one a line but for the last."""

NAMES_KEY = re.compile(r"\bnames[\"']?\s*:")
"""A YAML file without it is another program's."""

VALIDATION = ("val", "validation", "valid")
"""What the held-out split is called."""


class Names(NamedTuple):
    """What data.yaml, or a file of names alone, says.

    Attributes:
        path: the file.
        by_class: names by the number of their class.
        content: the whole YAML, all values as text; empty for a file of names.
    """

    path: Path
    by_class: dict[int, str]
    content: dict[str, Any]

    @property
    def splits(self) -> list[str]:
        """Those of the usual splits whose images are listed."""
        return [key for key in ("train", *VALIDATION, "test") if self.content.get(key)]

    @property
    def keypoints(self) -> int | None:
        """Numbers of keypoints behind a box, by `kpt_shape`; None where there are none.

        Raises:
            DataError: a shape that is none.
        """
        shape = self.content.get("kpt_shape")
        if not isinstance(shape, list):
            return None
        try:
            points, values = map(int, shape)
        except ValueError as error:
            raise DataError(f"{self.path}:1: kpt_shape {shape!r:.80}; expected [17, 3]") from error
        return points * values


def find_names(annotations: Path) -> Names:
    """The names of a data set, from its YAML file or a list, there or in the two folders above.

    Args:
        annotations: the YAML file, or the folder of the data set or of its labels.

    Raises:
        DataError: no such file, one without names, or several that name a class otherwise.
    """
    if annotations.suffix.lower() in (".yaml", ".yml"):
        return _read_yaml(annotations)
    folders = (annotations, *annotations.absolute().parents[:2])
    found: list[Names] = []
    for folder in folders:
        found += _names_in(folder) if not found else _data_yaml(folder)
    if not found:
        raise DataError(
            f"{annotations}: no names of the classes; expected data.yaml or "
            f"{', '.join(NAME_FILES)}, there or in the two folders above"
        )
    for other in found[1:]:
        for number in sorted(found[0].by_class.keys() & other.by_class.keys()):
            one, two = found[0].by_class[number], other.by_class[number]
            if one != two:
                raise DataError(
                    f"{found[0].path}: class {number} is {one!r:.80} here and {two!r:.80} in "
                    f"{other.path}; name the right one with --annotations data.yaml, or take the "
                    "other one away"
                )
    return found[0]


def _names_in(folder: Path) -> list[Names]:
    """What the files of one folder say; data.yaml, which ultralytics reads, speaks alone."""
    if found := _data_yaml(folder):
        return found
    tables = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    tables = [path for path in tables if path.is_file() and NAMES_KEY.search(read_document(path))]
    lists = [folder / name for name in NAME_FILES]
    return [*map(_read_yaml, tables), *(_read_list(path) for path in lists if path.is_file())]


def _data_yaml(folder: Path) -> list[Names]:
    path = folder / DATA_YAML
    return [_read_yaml(path)] if path.is_file() else []


def _read_yaml(path: Path) -> Names:
    try:
        content = parse_yaml_texts(read_document(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}:1: not YAML ({' '.join(str(error).split())})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    try:
        by_class = {int(key): name for key, name in names.items()} if names else {}
    except (AttributeError, ValueError):
        by_class = {}
    if not by_class or not all(isinstance(n, str) and n.strip() for n in by_class.values()):
        raise DataError(
            f"{path}:1: names must be a list of names, or a mapping from 0, 1, ... to names, "
            f"got {names!r:.80}"
        )
    count = content.get("nc")
    if count is not None and count != str(len(by_class)):
        raise DataError(f"{path}:1: nc is {count!r:.40}, but there are {len(by_class)} names")
    return Names(path, _unique(by_class, path), content)


def _read_list(path: Path) -> Names:
    text = read_document(path)
    try:
        if path.suffix == ".json":
            names = {int(row["id"]): row["name"] for row in json.loads(text)["categories"]}
        else:
            names = dict(enumerate(line.strip() for line in text.rstrip().splitlines()))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{path}:1: no names of classes in it ({error})") from error
    for number, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}:{number + 1}: class {number} has no name")
    return Names(path, _unique(names, path), {})


def _unique(names: dict[int, str], path: Path) -> dict[int, str]:
    """The names without blanks around them, each of one class."""
    names = {number: name.strip() for number, name in names.items()}
    classes: dict[str, int] = {}
    for number, name in names.items():
        if name in classes:
            raise DataError(
                f"{path}:1: classes {classes[name]} and {number} are both {name!r:.80}; "
                "merge the two classes first"
            )
        classes[name] = number
    return names


def find_folder(names: Names) -> Path:
    """Where the data set lies: `path` of data.yaml, from there or as it stands, else its folder.

    Args:
        names: data.yaml.

    Raises:
        UsageError: it lists no split, or there is no such folder.
    """
    way_out = "--images names the folder of the images"
    if not names.splits:
        raise UsageError(f"{names.path}: lists no split of images; {way_out}")
    path = str(names.content.get("path") or ".")
    for folder in (names.path.parent / path, Path(path)):
        if folder.is_dir():
            return folder
    raise UsageError(f"{names.path}: path {path!r:.80} is no folder here; {way_out}")


def find_split(names: Names, split: str) -> str:
    """The key of data.yaml for a split; the held-out one has several names.

    Args:
        names: data.yaml.
        split: `train`, `val`, `test` or another key.

    Raises:
        UsageError: no such split.
    """
    alike = (split, *VALIDATION) if split in VALIDATION else (split,)
    for key in alike:
        if names.content.get(key):
            return key
    raise UsageError(
        f"{names.path}: no split {split!r}; splits: {', '.join(names.splits) or 'none'}"
        f"{did_you_mean(names.splits, split)}"
    )


def find_images(names: Names, images: ImageFolder, splits: Sequence[str]) -> list[str]:
    """Images as paths from the images folder, sorted: those of splits, or without any all of it.

    Args:
        names: data.yaml, which tells where the splits are.
        images: the folder.
        splits: keys of data.yaml.

    Raises:
        DataError: no images, or some that lie outside of the folder.
    """
    found: list[str] = [] if splits else list(walk(images.folder, IMAGE_SUFFIXES))
    for split in splits:
        entry = names.content[split]
        for place in [entry] if isinstance(entry, str) else map(str, entry):
            found += _listed(place, names, images)
    if not found:
        of = f" of the split {' or '.join(splits)}" if splits else ""
        raise DataError(f"{images.folder}: no images{of}")
    return sorted(dict.fromkeys(found))


def splits_among(names: Names, images: ImageFolder, found: Sequence[str]) -> list[str]:
    """The usual splits of data.yaml that some of the images belong to.

    Args:
        names: data.yaml.
        images: the folder.
        found: paths of images from there.
    """
    several, known = [], set(found)
    uncounted = ImageFolder(images.folder)
    for split in names.splits:
        try:
            if not known.isdisjoint(find_images(names, uncounted, [split])):
                several.append(split)
        except DataError:  # such as one that lies elsewhere
            continue
    return several


def _listed(entry: str, names: Names, images: ImageFolder) -> Iterator[str]:
    """The images of a folder or of a .txt list, as paths from the images folder."""
    place = _resolved(entry, names)
    if place.is_dir():
        prefix = _inside(place, images, names)
        yield from (f"{prefix}{path}" for path in walk(place, IMAGE_SUFFIXES))
        return
    for number, line in enumerate(read_document(place).splitlines(), start=1):
        if not line.strip():
            continue
        path = Path(line.strip())
        known = (path, place.parent / path, names.path.parent / path)
        found = next((each for each in known if each.is_file()), None)
        where = f"{place}:{number}"
        if found is not None and found.absolute().is_relative_to(images.folder.absolute()):
            path = found.absolute().relative_to(images.folder.absolute())
        yield images.locate(path.as_posix(), where)


def _resolved(entry: str, names: Names) -> Path:
    """Where an entry of data.yaml leads, by the rules of ultralytics and a leading ../ forgiven."""
    root, here = Path(str(names.content.get("path") or "")), names.path.parent
    forgiven = entry.removeprefix("../")
    tried = [root / entry, here / root / entry, here / entry, here / forgiven]
    if not names.content.get("path"):
        tried = tried[2:]
    for path in tried:
        if path.exists():
            return path
    raise DataError(f"{names.path}:1: {entry!r:.80} is neither folder nor list; no {tried[0]}")


def _inside(place: Path, images: ImageFolder, names: Names) -> str:
    """The folder as a prefix of paths from the images folder."""
    try:
        relative = place.resolve().relative_to(images.folder.resolve()).as_posix()
    except ValueError as error:
        raise DataError(
            f"{names.path}:1: images in {place}, which is not inside of {images.folder}; "
            "--images names a folder that holds them"
        ) from error
    return "" if relative == "." else f"{relative}/"


class LabelFiles:
    """Finds the label file of every image, and the files that are no image's."""

    def __init__(self, annotations: Path, images: Path) -> None:
        """List no folder yet.

        Args:
            annotations: YAML file, or the folder of the data set or of its labels.
            images: the images folder.
        """
        self.images = images.absolute().as_posix()
        self.named = None if annotations.is_file() else annotations.absolute().as_posix()
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._used: set[str] = set()
        self._elsewhere: dict[str, list[str]] = {}

    def of(self, image: str) -> Path | None:
        """The label file of an image; None where it has none and so shows nothing.

        Args:
            image: its path from the images folder.

        Raises:
            DataError: two files could be meant, or the one that ultralytics reads lies outside of
                the folder that was named, or the one there is another split's.
        """
        expected = _label_place(f"{self.images}/{image}")
        if self.named is None:
            found = self._find(expected)
        else:
            found = self._find(f"{self.named}/{image}") or self._find(expected)
            if found is not None and not found.startswith(f"{self.named}/"):
                raise DataError(
                    f"{found}:1: the labels of {image} lie outside of {self.named}; "
                    "name a folder that holds the labels of all images"
                )
            if found is not None and (splits := self._other_splits(found, image)):
                raise DataError(
                    f"{found}:1: lies in a folder called {splits[0]}, and {image} in one called "
                    f"{splits[1]}; name the folder that holds the labels of these images"
                )
        return None if found is None else Path(found)

    def _other_splits(self, file: str, image: str) -> tuple[str, str] | None:
        """The splits that the folders of a label file and of its image are called by, if two."""
        path = f"{self.images}/{image}"
        start = len(os.path.commonpath((file, path)))
        splits = split_of(file[start:]), split_of(path[start:])
        return splits if all(splits) and splits[0] != splits[1] else None

    def has_folder(self, image: str) -> bool:
        """Whether a folder is there in which the label file of an image could lie.

        Args:
            image: its path from the images folder.
        """
        places = [_label_place(f"{self.images}/{image}")]
        places += [f"{self.named}/{image}"] if self.named is not None else []
        return any(Path(place).parent.is_dir() for place in places)

    def _find(self, place: str) -> str | None:
        """NAME.txt or NAME.jpg.txt for NAME.jpg, in whichever case and Unicode form."""
        folder, _, name = place.rpartition("/")
        files = self._listing(folder)
        for stem in (name.rpartition(".")[0], name):
            alike = files.get(fold_path(f"{stem}.txt"), [])
            exact = [file for file in alike if file == f"{stem}.txt"] or alike
            if len(exact) > 1:
                raise DataError(f"{folder}/{exact[0]}:1: {exact[1]} could be meant as well")
            if exact:
                self._used.add(f"{folder}/{exact[0]}")
                return f"{folder}/{exact[0]}"
        return None

    def unused(self) -> list[Path]:
        """Files of labels, beside those of images or in the named folder, that are no image's."""
        if self.named is not None:
            for path in walk(Path(self.named), frozenset((".txt",))):
                self._listing(f"{self.named}/{path}".rpartition("/")[0])
        listed = {
            f"{folder}/{name}"
            for folder, files in self._listings.items()
            for names in files.values()
            for name in names
        }
        return [path for path in map(Path, sorted(listed - self._used)) if _holds_labels(path)]

    def is_elsewhere(self, file: Path) -> bool:
        """Whether the image of a label file lies outside of the images folder, as another split's.

        Args:
            file: of `unused`.
        """
        folder, marked, below = file.parent.as_posix().rpartition("/labels")
        place = f"{folder}/images{below}"
        if not marked or f"{place}/".startswith(f"{self.images}/") or not Path(place).is_dir():
            return False
        stem = fold_path(file.stem)
        return any(fold_path(image).rpartition(".")[0] == stem for image in self._images_in(place))

    def _images_in(self, folder: str) -> list[str]:
        if folder not in self._elsewhere:
            names = os.listdir(folder)  # noqa: PTH208 - names alone
            self._elsewhere[folder] = [n for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES]
        return self._elsewhere[folder]

    def _listing(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listings:
            found = defaultdict(list)
            try:
                names = os.listdir(folder)  # noqa: PTH208 - names alone
            except OSError:
                names = []
            for name in names:
                if name.lower().endswith(".txt") and not name.startswith("."):
                    found[fold_path(name)].append(name)
            self._listings[folder] = found
        return self._listings[folder]


def _label_place(image: str) -> str:
    """Where the labels of an image lie: in `labels` for the last `images` of its path."""
    return "/labels/".join(image.rsplit("/images/", 1))


def _holds_labels(path: Path) -> bool:
    """Whether every line starts with a class and four numbers, as no list of names does."""
    try:
        lines = read_document(path).splitlines()
        rows = [[float(value) for value in line.split()[:5]] for line in lines if line.strip()]
    except (DataError, ValueError):
        return False
    return bool(rows) and all(len(row) == 5 for row in rows)
