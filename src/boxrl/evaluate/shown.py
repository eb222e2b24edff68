"""An evaluation as a notebook shows it: figures beside the blind baseline, then their protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from boxrl.errors import tally
from boxrl.evaluate.summary import METRICS, look_up


def render_html(metrics: Mapping[str, Any]) -> str:
    """The headline figures with intervals, what they are worth, and how they came about.

    Args:
        metrics: of an evaluation, as metrics.json holds them.
    """
    rows = []
    for metric in METRICS:
        value = None if metric.detail else look_up(metrics, metric.key)
        if value is not None:
            span = metric.format_ends(metrics["intervals"].get(metric.key))
            beside = metric.format(look_up(metrics["blind"], metric.key))
            rows.append([metric.name, metric.format(value), span, beside])
    columns = [tally(metrics["n"], "sample"), "value", "95 % interval", "blind baseline"]
    verdict = metrics["blind"].get("beats_blind")
    said = [verdict["words"]] if verdict else []
    said += metrics.get("hints", ())
    protocol = [f"{key}: {value}" for key, value in metrics["protocol"].items() if value]
    paragraphs = Markup("").join(Markup("<p>{}</p>").format(text) for text in said)
    how = Markup("<details><summary>protocol</summary><pre>{}</pre></details>")
    return str(table(columns, rows) + paragraphs + how.format("\n".join(protocol)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table of HTML; every cell is text.

    Args:
        columns: names above.
        rows: cells, as many as columns.
    """
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in columns)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(str(cell)) for cell in row)
        )
        for row in rows
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)
