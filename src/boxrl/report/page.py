"""The HTML page: one template, its own style and script, nothing else that could run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from boxrl import __version__
from boxrl.data.files import write_atomic
from boxrl.guard.texts import visible
from boxrl.metrics.box_errors import KINDS
from boxrl.report.answers import Answers
from boxrl.report.benchmark import BenchmarkTable
from boxrl.report.colours import COLOURS
from boxrl.report.gallery import Gallery
from boxrl.report.glossary import Terms, anchor
from boxrl.report.images import place_thumbnails, read_thumbnails
from boxrl.report.labels import LabelTable
from boxrl.report.metrics import Headline, MetricTable
from boxrl.report.recipe import About
from boxrl.report.thinking import ThoughtTable
from boxrl.report.training import Chart

MOST_HEADLINES = 4
"""Sentences at the top of a page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on a page, in its order. What is empty is left out.

    Attributes:
        title: stands at the top.
        runs: the runs that it is about.
        missing: a sentence for everything that the runs lack.
        metrics: tables of them.
        charts: training curves.
        warnings: what looked wrong while training, in the log's words.
        gallery: samples and answers.
        answers: what they look like.
        labels: precision and recall by label.
        thinking: the commonest thoughts.
        views: what the gallery shows side by side: numbers of the gallery's evaluations.
        benchmarks: tables beside published results.
        trainings: what runs came to that were not evaluated; said where no table has a headline.
    """

    title: str
    runs: Sequence[About]
    missing: Sequence[str]
    metrics: Sequence[MetricTable]
    charts: Sequence[Chart]
    warnings: Sequence[str]
    gallery: Gallery
    answers: Sequence[Answers]
    labels: Sequence[LabelTable]
    thinking: Sequence[ThoughtTable]
    views: Sequence[tuple[int, ...]]
    benchmarks: Sequence[BenchmarkTable] = ()
    trainings: Sequence[Headline] = ()

    @property
    def headlines(self) -> list[Headline]:
        """What its tables come to, one sentence each; of one benchmark its own headline."""
        if len(self.benchmarks) == 1 and self.benchmarks[0].headline:
            return [Headline("", "", "", self.benchmarks[0].headline)]
        said = [said for table in self.metrics if (said := table.headline)] or self.trainings
        return list(said[:MOST_HEADLINES])


def write_page(page: Page, out: Path, live: bool = False) -> None:
    """Render the page; pictures beyond the size that is embedded go to `OUT_files/`.

    The content security policy names style and scripts by their hashes and forbids every
    request, so text that slipped through escaping would still do nothing. A live page may ask
    its own server, and only that.
    """
    pictures = place_thumbnails(read_thumbnails(page.gallery.image_paths), out)
    write_html(
        "report.html.j2",
        out,
        [*(["scene.js", "gallery.js"] if page.views else []), *(["live.js"] if live else [])],
        page.gallery.as_json(page.views, pictures),
        live=live,
        page=page,
        without_pictures=all(url is None for url in pictures),
        kinds=KINDS,
        term=Terms(),
        anchor=anchor,
    )


def write_html(
    template: str,
    out: Path,
    scripts: Sequence[str],
    payload: str,
    *,
    live: bool = False,
    **content: Any,
) -> None:
    """Render a template as a page that runs its own scripts and nothing else.

    Args:
        template: its name.
        out: the HTML file.
        scripts: names of boxrl's own, in order.
        payload: what they read: JSON without any `<`, see `script_json`.
        live: the page may ask its own server.
        content: what the template shows, escaped.
    """
    style, sources = _style(), [_asset(name) for name in scripts]
    html = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # boxrl's own file  # nosec B704
            scripts=[Markup(source) for source in sources],  # boxrl's own files  # nosec B704
            policy=_policy(style, sources, live),
            payload=Markup(payload),  # holds no "<"  # nosec B704
            version=__version__,
            **content,
        )
    )
    with write_atomic(out) as handle:
        handle.write(html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("boxrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment


def _policy(style: str, scripts: Sequence[str], live: bool) -> str:
    sources: Mapping[str, str] = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "img-src": "data: 'self' file:",
        "style-src": f"'{_digest(style)}'",
        "script-src": " ".join(f"'{_digest(script)}'" for script in scripts) or "'none'",
        "connect-src": "'self'" if live else "'none'",
    }
    return "; ".join(f"{kind} {allowed}" for kind, allowed in sources.items())


def _style() -> str:
    kinds = "".join(f".scene .k-{kind} {{ --c: {c}; }}\n" for kind, c in COLOURS.items())
    labels = "".join(f".c{place} {{ --c: {c}; }}\n" for place, c in enumerate(COLOURS.values()))
    return _asset("style.css") + kinds + labels


def _asset(name: str) -> str:
    return (resources.files("boxrl.report") / "templates" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """The text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
