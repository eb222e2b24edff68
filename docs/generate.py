"""Pages of the site that are made from something else: README, command line, docstrings.

mkdocs calls `on_config` and `on_files` (mkdocs.yml, `hooks`); nothing is written into docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from boxrl.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES_OF_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
SECTION_OF_FOLDER = {"howto": "How to", "decisions": "Decisions"}
"""Of pages that mkdocs.yml does not name; all others are Evidence."""

SOURCE = "https://github.com/boxrl/boxrl/blob/main/"
TITLES = {
    "api": "Models and training", "config": "Recipes", "evaluate": "Evaluation",
    "report": "Reports", "runs": "Run folders",
}  # fmt: skip
"""Of pages under reference/ that are not titled like their package."""


def on_config(config: Any) -> Any:
    """Pages that mkdocs.yml does not name join the section of their folder."""
    sections = {title: pages for entry in config.nav for title, pages in entry.items()}
    named = {page for pages in sections.values() for page in list_pages(pages)}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = str(path.relative_to(ROOT / "docs"))
        if page not in named:
            sections[SECTION_OF_FOLDER.get(path.parent.name, "Evidence")].append(page)
    return config


def list_pages(pages: Any) -> list[str]:
    """Pages of a section, without their titles."""
    if isinstance(pages, str):
        return [pages]
    return [page for entry in pages
            for page in (entry.values() if isinstance(entry, dict) else [entry])]  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    made = {name: move_links((ROOT / source).read_text("utf-8"))
            for source, name in PAGES_OF_THE_ROOT.items()}  # fmt: skip
    # Home is alone in its section: there is nothing to navigate beside it.
    made["index.md"] = f"---\nhide: [navigation]\n---\n\n{made['index.md']}"
    made["reference/cli.md"] = render_command_line()
    made |= {f"notebooks/{path.stem}.md": render_notebook(path)
             for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}  # fmt: skip
    made |= {f"reference/{name}.md": render_package(name) for name in list_packages()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def move_links(text: str) -> str:
    """A page of the repository's root as a page of docs/: links that still lead somewhere.

    Comments become empty lines: a table right behind one would be no table here.
    """
    text = re.sub(r"<!--.*?-->", "", text)
    text = text.replace("](docs/", "](").replace('src="docs/', 'src="')
    for source, name in PAGES_OF_THE_ROOT.items():
        text = text.replace(f"]({source})", f"]({name})")
    return re.sub(r"\]\(((?:recipes|perf|src|tests|deploy)/[^)]*)\)", rf"]({SOURCE}\1)", text)


def render_notebook(path: Path) -> str:
    """A notebook as a page: its text, its code, and what the code showed when it was last run."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", *map(render_output, cell["outputs"])]
    title, *rest = parts
    link = f"[As a notebook]({path.name}), which runs as it stands."
    head, _, text = title.partition("\n")
    return "\n\n".join([head, link, text, *rest])


def render_output(output: dict[str, Any]) -> str:
    """What a cell showed, as Markdown."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![what the cell shows](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        html = "".join(data["text/html"]).replace("\n\n", "\n")  # a blank line would end it
        return f'<div class="shown">\n{html}\n</div>'
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```"


def render_command_line() -> str:
    """Every verb's own help."""
    os.environ["COLUMNS"] = "88"
    parts = ["# Command line\n", "What `--help` prints, for every verb.\n"]
    for words, parser in walk_verbs(build_parser()):
        title = "boxrl" if not words else f"boxrl {words}"
        parts.append(f"{'#' * min(2 + words.count(' '), 3)} {title}\n")
        parts.append(f"```text\n{parser.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


def walk_verbs(
    parser: argparse.ArgumentParser, words: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(`data convert`, its parser), parents first."""
    yield words, parser
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        first_names = {id(child): name for name, child in reversed((action.choices or {}).items())}
        for name, child in (action.choices or {}).items():
            if name != first_names[id(child)]:
                continue  # an alias
            yield from walk_verbs(child, f"{words} {name}".strip())


def list_packages() -> list[str]:
    """Packages and modules right below boxrl."""
    paths = (ROOT / "src" / "boxrl").iterdir()
    names = {path.stem for path in paths if path.suffix in ("", ".py")}
    return sorted(name for name in names if not name.startswith("_"))


def render_package(name: str) -> str:
    """A heading and one mkdocstrings block per public module."""
    blocks = "\n\n".join(f"::: boxrl.{module}" for module in list_modules(name))
    return f"# {TITLES.get(name, name.capitalize())}\n\n{blocks}\n"


def list_modules(package: str) -> list[str]:
    """Dotted modules of a package, itself first; a module alone is its own."""
    folder = ROOT / "src" / "boxrl"
    if not (folder / package).is_dir():
        return [package]
    inside = (folder / package).rglob("*.py")
    dotted = (".".join(path.relative_to(folder).with_suffix("").parts) for path in inside)
    return sorted(name.removesuffix(".__init__") for name in dotted if "._" not in name[:-9])
