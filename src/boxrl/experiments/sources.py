"""Which of boxrl's modules a result follows from, as one hash.

A cached result is good as long as the code that made it stands. Followed from one module over
its imports, so that an edited reward makes results stale and an edited report does not; comments
and docstrings count for nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def code_version(module: str, package: Path = PACKAGE) -> str:
    """Hash of a module and of every module of the package that it reaches by imports.

    Args:
        module: dotted name, such as `boxrl.engines.training.train`.
        package: folder of the package `boxrl`.

    Law: unchanged by comments, docstrings and modules out of reach.
    """
    root = package.parent
    found: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file(root, name)
        if name in found or path is None:
            continue
        tree = ast.parse(path.read_bytes())
        found[name] = _bare(tree)
        todo += _imports(tree)
        todo += [name.rpartition(".")[0]] if "." in name else []
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + found[name] + b"\0")
    return digest.hexdigest()[:16]


def _file(root: Path, name: str) -> Path | None:
    """The module's file; None where the name is no module of the package."""
    path = root.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file() and name.split(".")[0] == "boxrl":
            return file
    return None


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are imported anywhere in the module; what follows `from` may be one.

    What only the type checker imports is run by nobody.
    """
    checked = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _for_types(node)]
    unseen = {id(item) for node in checked for item in node.body}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _bare(tree: ast.AST) -> bytes:
    """The syntax tree without docstrings; comments are not in it anyway."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                item
                for item in body
                if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            ]
    return ast.dump(tree).encode()
