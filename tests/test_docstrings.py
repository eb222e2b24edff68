"""Public names say what a reader needs: shapes, units, errors and where a formula comes from."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxrl.rewards import REWARDS

PACKAGE = Path(__file__).parents[1] / "src" / "boxrl"
MODULES = sorted(PACKAGE.rglob("*.py"))
ARRAYS = re.compile(r"\b(NDArray|ndarray|Tensor|Boxes|Floats|Ints|Bools)\b")
SHAPE = re.compile(r'"[\w*+ ]+"|\bscalar\b')
"""Docstrings write shapes as "n 4"."""
REFERRED = re.compile(r"\b([Aa]rguments as|see|as) (`?[\w.]+|its own)")
MANY = 4
"""From so many parameters on each is told of."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public classes and functions of a module, and public methods of those classes."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.ClassDef | Function)
        if named and not node.name.startswith("_"):
            decorators = [ast.unparse(item) for item in node.decorator_list]
            if "overload" not in decorators:
                yield f"{within}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")


def parameters(function: Function) -> dict[str, str]:
    """{name: annotation} of those that a caller gives by name."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return {
        item.arg: ast.unparse(item.annotation) if item.annotation else ""
        for item in listed
        if item.arg not in ("self", "cls") and not item.arg.startswith("_")
    }


def listed_arguments(text: str) -> set[str]:
    """Names in the section Args."""
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    indent = len(section) - len(section.lstrip())
    lines = re.findall(rf"^ {{{indent}}}([*\w, ]+):", section, re.MULTILINE)
    return {name.strip("* ") for line in lines for name in line.split(",")}


def raised(function: Function) -> set[str]:
    """Errors that its own body raises by name, those of functions inside it left out."""
    found, left = set(), list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
        left += ast.iter_child_nodes(node)
    return {name for name in found if name[0].isupper()} - {"SystemExit"}


def gaps(source: str, *, is_api: bool) -> list[str]:
    """What the docstrings of a module leave out.

    Args:
        source: the module.
        is_api: whether callers catch its errors: not so for verbs, whose errors end in one line.
    """
    found = []
    for name, node in public(ast.parse(source)):
        text = ast.get_docstring(node)
        if text is None:
            found.append(f"{name}: has no docstring")
            continue
        if not isinstance(node, Function):
            continue
        given = parameters(node)
        listed = listed_arguments(text)
        if "Args:" in text and (unknown := listed - given.keys() - varying(node)):
            found.append(f"{name}: takes no {sorted(unknown)}")
        if "Args:" in text and (missing := given.keys() - listed):
            found.append(f"{name}: Args leaves out {sorted(missing)}")
        words = set(re.findall(r"\w+", text))
        if len(given) >= MANY and not REFERRED.search(text) and given.keys() - words:
            found.append(f"{name}: says nothing of {sorted(given.keys() - words)}")
        annotations = " ".join([*given.values(), ast.unparse(node.returns) if node.returns else ""])
        if ARRAYS.search(annotations) and not SHAPE.search(text):
            found.append(f"{name}: takes or gives arrays of no shape")
        if is_api and (untold := raised(node) - words):
            found.append(f"{name}: raises {sorted(untold)} unsaid")
    return found


def varying(function: Function) -> set[str]:
    """Names of *args and **kwargs."""
    return {item.arg for item in (function.args.vararg, function.args.kwarg) if item}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_are_documented(module: Path) -> None:
    is_api = "cli" not in module.relative_to(PACKAGE).parts
    assert gaps(module.read_text("utf-8"), is_api=is_api) == []


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_names_its_range_and_its_source(name: str) -> None:
    text = REWARDS[name].__doc__ or ""
    assert re.search(r"Range [\[{]", text)
    assert re.search(r"Source: \w", text)


@pytest.mark.parametrize("module", sorted((PACKAGE / "metrics").glob("[a-z]*.py")), ids=str)
def test_a_metric_names_its_source(module: Path) -> None:
    assert "Source" in module.read_text("utf-8")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(): pass", "f: has no docstring"),
        ("class A:\n  '''An A.'''\n  def f(self): pass", "A.f: has no docstring"),
        ("def f(a):\n  '''F.\n\n  Args:\n    b: what.\n  '''", "f: takes no ['b']"),
        ("def f(a, b):\n  '''F.\n\n  Args:\n    b: what.\n  '''", "f: Args leaves out ['a']"),
        ("def f(a, b, c, d):\n  '''Of a, b and c.'''", "f: says nothing of ['d']"),
        ("def f(a: Boxes):\n  '''F of a.'''", "f: takes or gives arrays of no shape"),
        ("def f():\n  '''F.'''\n  raise ValueError('no')", "f: raises ['ValueError'] unsaid"),
    ],
)
def test_a_gap_is_found(source: str, told: str) -> None:
    assert told in gaps(source, is_api=True)
