r"""The images folder, and where in it a path leads that was written on another machine.

People's annotations name images with backslashes, percent signs, in other case or another Unicode
form, as URLs, as absolute paths, with another suffix, or below folders that no archive unpacks to.
Law: a path is mended only where it then leads to a file, which is of no other split, and two images
never become one; what was mended and what is not there is counted and told.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from boxrl.data.samples import checked_image, normal_image
from boxrl.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".mpo",
     ".heic", ".heif", ".jp2", ".dng")
)  # fmt: skip
"""In any case. Those that boxrl does not open are images all the same, and are told of."""


class ImageFolder:
    """Finds images by the paths that annotations give, and counts them."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet.

        Args:
            folder: what the paths start from; need not hold a single image.
        """
        self.folder = folder
        self._split = _nearest_split(folder.absolute().parts[-2:])  # images/val2017, valid/images
        self._paths: dict[str, str | None] = {}
        self._whole: set[str] = set()
        self._shortened: dict[str, str] = {}
        self._example = self._clash = ""
        self._mended = 0
        self._stems: dict[str, set[str]] | None = None
        self._files: dict[str, dict[str, bool]] = {}
        self._outside: set[str] = set()
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def locate(self, written: str, where: str) -> str:
        """The image's path from the folder, in its one spelling.

        Args:
            written: as the annotations have it.
            where: start of the error message.

        Raises:
            DataError: it leaves the folder, by `..`, by a link or as an absolute path, and no file
                inside answers to it.
        """
        found = self.find(written)
        if found is None:
            found = normal_image(checked_image(written, where).replace("\\", "/"))
        parent, _, name = found.rpartition("/")
        if self._files_of(parent).get(name) or parent in self._outside:
            return inside_folder(self.folder, found, where)
        return found

    def find(self, written: str) -> str | None:
        """The path from the folder of the file that is meant; None where no file answers to it.

        Args:
            written: as the annotations have it.
        """
        if written not in self._paths:
            self.settle((written,))
        return self._paths[written]

    def holds(self, written: str) -> bool:
        """Whether a file answers to a path that is only tried, and so not counted."""
        return self._search(written) is not None

    def settle(self, written: Iterable[str]) -> None:
        """Find several images at once: where two would lead to one file, neither is cut or renamed.

        Args:
            written: paths as the annotations have them, such as all of a file.
        """
        cut = defaultdict(list)
        for name in dict.fromkeys(written):
            path, guessed = self._search(name) or (None, False)
            self._paths[name] = None if guessed else path
            if path is None:
                continue
            if guessed:
                cut[path].append(name)
                continue
            self._whole.add(path)
            self._count(name, path)
            if path in self._shortened:
                self._clash = self._clash or _clash(name, self._shortened[path], path)
        for path, names in cut.items():
            taken = path in self._whole or path in self._shortened
            if len(names) == 1 and not taken:
                self._paths[names[0]] = path
                self._shortened[path] = names[0]
                self._count(names[0], path)
            elif path in self._shortened:
                self._clash = self._clash or _clash(names[0], self._shortened[path], path)

    def admit(self, name: str) -> str:
        """The name of a file that was just written into the folder, which was listed before.

        Args:
            name: of the file.
        """
        self._files_of("")[name] = False
        return name

    def of_stem(self, path: str) -> list[str]:
        """The images of that path without its suffix, or of that name alone where none has it.

        An image of another split than the path's is another one of the same name.

        Args:
            path: without suffix; in whichever case and Unicode form.
        """
        if self._stems is None:
            self._stems = defaultdict(set)
            for image in walk(self.folder, IMAGE_SUFFIXES):
                stem = fold_path(image).rpartition(".")[0]
                self._stems[stem].add(image)
                self._stems["/" + stem.rpartition("/")[2]].add(image)
        folded = fold_path(path)
        if exact := self._stems.get(folded):
            return sorted(exact)
        alone, split = self._stems.get("/" + folded.rpartition("/")[2], ()), split_of(folded)
        return sorted(image for image in alone if not split or split_of(image) in ("", split))

    def unused(self) -> list[str]:
        """Images of the folder that no path has led to."""
        return sorted({*walk(self.folder, IMAGE_SUFFIXES)} - self._whole - self._shortened.keys())

    def note(self) -> str:
        """How many of the images are there, for people."""
        missing = [name for name, path in self._paths.items() if path is None]
        found = len(self._whole) + len(self._shortened)
        text = f"{found:,} of {found + len(missing):,} images found under {self.folder}"
        if self._mended:
            text += f"; {self._mended:,} not as it is written, such as {self._example}"
        if missing:
            text += f"; not there: {missing[0]!r:.120}"
        return text

    def check(self) -> None:
        """See that no two images became one.

        Raises:
            DataError: they did.
        """
        if self._clash:
            raise DataError(f"{self.folder}: {self._clash}")

    def _count(self, name: str, path: str) -> None:
        if path != name and path != normal_image(name):
            self._mended += 1
            self._example = self._example or f"{name!r:.80} as {path!r:.80}"

    def _search(self, written: str) -> tuple[str, bool] | None:
        """The path of a file, and whether folders had to be dropped or its suffix changed."""
        plain = normal_image(written)
        parent, _, name = plain.rpartition("/")
        climbs = plain.startswith(("/", "..")) or "\\" in plain
        if not climbs and self._is_file(parent, name):
            return plain, False
        renamed = None
        for spelled in _spellings(written):
            parts = [part for part in spelled.split("/") if part not in ("", ".")]
            for start in range(len(parts)):
                if self._is_of_another_split(parts[:-1], start):
                    break
                folder = self._folder(parts[start:-1])
                if folder is None or not (listing := self._listing(folder)):
                    continue
                if found := self._file(folder, listing, parts[-1]):
                    return found, start > 0
                renamed = renamed or self._file(folder, self._stems_of(folder), _stem(parts[-1]))
        return (renamed, True) if renamed else None

    def _is_of_another_split(self, folders: list[str], start: int) -> bool:
        """Whether a path would lose the folder that says that it is of another split than these."""
        split = _nearest_split(folders)
        kept = _nearest_split(folders[start:])
        return bool(split and not kept and self._split) and split != self._split

    def _folder(self, parts: list[str]) -> str | None:
        """The path of these folders, in whichever case and Unicode form they are there."""
        path = ""
        for part in parts:
            names = self._listing(path).get(fold_path(part), [])
            if part not in names and len(names) != 1:
                return None
            name = part if part in names else names[0]
            path = f"{path}/{name}" if path else name
        return path

    def _file(self, folder: str, listing: dict[str, list[str]], name: str) -> str | None:
        """The path of the one file of a listing that answers to a name."""
        names = listing.get(fold_path(name), [])
        found = name if name in names else names[0] if len(names) == 1 else ""
        path = f"{folder}/{found}" if folder else found
        return path if found and self._is_file(folder, found) else None

    def _stems_of(self, folder: str) -> dict[str, list[str]]:
        """The images that a folder below this one holds, by folded stem."""
        if folder not in self._by_stem:
            stems = defaultdict(list)
            for name in (name for names in self._listing(folder).values() for name in names):
                if (stem := _stem(name)) != name:
                    stems[fold_path(stem)].append(name)
            self._by_stem[folder] = stems
        return self._by_stem[folder]

    def _is_file(self, parent: str, name: str) -> bool:
        """Whether a folder below this one holds that file, or a link to one."""
        is_link = self._files_of(parent).get(name)
        return is_link is False or (is_link is True and (self.folder / parent / name).is_file())

    def _files_of(self, parent: str) -> dict[str, bool]:
        """Files and links of a folder below this one, and whether they are links.

        Listed once: to ask for each of 100,000 images takes seconds, and minutes over a network.
        """
        if parent not in self._files:
            place = os.path.join(self.folder, parent)  # noqa: PTH118 - a name that no path can be
            try:
                with os.scandir(place) as entries:
                    found = {e.name: e.is_symlink() for e in entries if _is_file_or_link(e)}
            except (OSError, ValueError):
                found = {}
            self._files[parent] = found
            if not _leads_inside(self.folder, place):
                self._outside.add(parent)
        return self._files[parent]

    def _listing(self, path: str) -> dict[str, list[str]]:
        """What a folder below this one holds, by folded name; nothing where it is none."""
        if path not in self._listings:
            found = defaultdict(list)
            try:
                for name in os.listdir(self.folder / path):  # noqa: PTH208 - names alone
                    found[fold_path(name)].append(name)
            except (OSError, ValueError):
                pass
            self._listings[path] = found
        return self._listings[path]


def walk(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Files of those suffixes below a folder, as paths from there; hidden ones left out."""
    root = str(folder)
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        start = "" if place == root else os.path.relpath(place, root).replace(os.sep, "/") + "/"
        for name in files:
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("."):  # noqa: PTH122
                yield start + name


def _stem(name: str) -> str:
    """An image's name without its suffix; any other name as it is."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


_SPLIT = re.compile(r"(train|val|test|dev)(?:ing|id|idation)?[\d_-]*", re.IGNORECASE)


def split_of(path: str) -> str:
    """The split that a folder of a path is called by, such as train of train2017/a.jpg; or "".

    Args:
        path: of a file, with slashes.
    """
    found = filter(None, map(_SPLIT.fullmatch, path.split("/")[:-1]))
    return next((name[1].lower() for name in found), "")


def _nearest_split(folders: Sequence[str]) -> str:
    """The split that the last of the folders is called by that is called by one; or ""."""
    return next(filter(None, (split_of(f"{folder}/") for folder in reversed(folders))), "")


def fold_path(name: str) -> str:
    """A path as paths are compared that other systems wrote: one Unicode form, no case."""
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(written: str) -> Iterator[str]:
    """How else a path can be meant, the likeliest first; what stands before a `..` is dropped."""
    slashed = written.replace("\\", "/")
    if not any(character in slashed for character in "%?#"):
        yield slashed.rpartition("../")[2]
        return
    served = re.search(r"/local-files/?\?d=([^&]*)", slashed)  # as Label Studio serves folders
    for spelled in (
        slashed,
        unquote(slashed),
        unquote(served.group(1)) if served else unquote(re.split(r"[?#]", slashed)[0]),
    ):
        yield spelled.replace("\\", "/").rpartition("../")[2]


def _clash(one: str, other: str, path: str) -> str:
    return (
        f"images {one!r:.80} and {other!r:.80} would both be {path!r:.80}; name the folder that "
        "the paths of all images start from"
    )


def inside_folder(images: Path, image: str, where: str) -> str:
    """The relative image path in its one spelling, checked not to leave the folder, links included.

    No image is opened, and none has to be there.

    Raises:
        DataError: an absolute path, a path with `..`, or a link out of the folder.
    """
    image = checked_image(image, where)
    path = os.path.join(images, image)  # noqa: PTH118 - once per image of a large archive
    if not _stays(images, os.path.dirname(path)) or (  # noqa: PTH120
        _is_link(path) and not _leads_inside(images, path)
    ):
        raise DataError(f"{where}: image {image!r} is a link out of the images folder {images}")
    return image


def _is_file_or_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_symlink()


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):  # not there, or a name that no file can have
        return False


def _leads_inside(images: Path, path: str) -> bool:
    try:
        return Path(path).resolve().is_relative_to(images.resolve())
    except (OSError, RuntimeError, ValueError):  # such as a link that leads to itself
        return False


_stays = lru_cache(maxsize=65536)(_leads_inside)
"""For folders, of which there are few."""
