"""Tables to cite: what they hold, and that each form is read by those who read it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from boxrl.benchmarks import BENCHMARKS
from boxrl.cli import main
from boxrl.cli.compare import print_comparison
from boxrl.cli.evaluate import _print_end
from boxrl.evaluate import Evaluation, compare, evaluate
from boxrl.evaluate.tables import (
    CitedTable,
    Format,
    comparison_table,
    evaluation_table,
    protocol_line,
    render_tables,
)
from tests.support.evaluations import QWEN, SCENES, spoil

ONE = evaluate(SCENES, spoil(SCENES, 0.5, 0), QWEN, resamples=20, settings={"model": "m_1 & co"})
ODD = CitedTable(
    "50 % of {a_b} & c\\d",
    ("name | it", "value"),
    (("#1 ~^$", 12.345), ("=SUM(A1)", None), ("n", 7)),
    {"n": 3, "protocol": "mode all"},
)


ALL_PUBLISHED = CitedTable(
    "every published row",
    ("model", "figures", "source", "remark"),
    tuple(
        (row.model, ", ".join(f"{k} {v}" for k, v in row.figures.items()), row.source, row.remark)
        for benchmark in BENCHMARKS.values()
        for row in benchmark.published
    ),
)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_rates_are_percent_with_interval_n_and_protocol() -> None:
    rows = {row["metric"]: row for row in read_csv(ONE.to_csv())}
    low, high = ONE.metrics["intervals"]["mAP"]
    assert float(rows["mAP"]["value"]) == pytest.approx(ONE.metrics["mAP"] * 100)
    assert float(rows["mAP"]["95 % low"]) == pytest.approx(low * 100)
    assert float(rows["mAP"]["95 % high"]) == pytest.approx(high * 100)
    blind = ONE.metrics["blind"]["mAP"] * 100
    assert float(rows["mAP"]["blind baseline"]) == pytest.approx(blind)
    assert rows["tokens, mean"]["value"] == "10.0"  # no rate
    assert {row["n"] for row in rows.values()} == {"80"}
    assert all("model m_1 & co" in row["protocol"] for row in rows.values())
    assert "confidence constant" in rows["mAP"]["protocol"]


def test_markdown_has_one_row_per_metric_and_one_footnote() -> None:
    text = ONE.to_markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {6}
    assert re.search(r"\| mAP \| \d+\.\d \| \d+\.\d \| \d+\.\d \|", text)
    assert repr(ONE) == text
    assert text.splitlines()[-1].startswith("rates in percent; n 80; protocol ")
    odd = render_tables([ODD], "markdown")
    assert r"name \| it" in odd
    assert "| =SUM(A1) | - |" in odd
    assert "| :-- | --: |" in odd
    assert "| :-- | :-- | :-- | :-- |" in render_tables([ALL_PUBLISHED], "markdown")


def test_latex_escapes_what_latex_reads() -> None:
    text = render_tables([ODD], "latex")
    assert r"50 \% of \{a\_b\} \& c\textbackslash{}d" in text
    assert r"\#1 \textasciitilde{}\textasciicircum{}\$ & 12.3 \\" in text
    bare = re.sub(r"\\[%&$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1}
    assert r"m\_1 \& co" in ONE.to_latex()


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("markdown", "a\u27e8U+0007\u27e9b\u27e8U+202E\u27e9"),
        ("latex", r"a$\langle$U+0007$\rangle$b$\langle$U+202E$\rangle$"),
    ],
)
def test_control_characters_of_names_are_written_out(form: Format, shown: str) -> None:
    text = render_tables([CitedTable("a\x07b\u202e", ("a\x07b\u202e",), (), {"n": 1})], form)
    assert text.count(shown) == 2


NAMED = CitedTable(
    "names",
    ("é \N{EN DASH} ±", "<b>\"quoted\" 'x'"),
    tuple((name, 1.0) for name in ("$x_1^2$ \\LaTeX", "[a]-{b}", "*", "[1cm]", "\x07")),
    {"n": 1},
)
"""Behind a row's end LaTeX takes a bracket or a star for an option."""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles_without_packages(tmp_path: Path) -> None:
    two = comparison_table(compare(ONE, ONE, resamples=10), ["runs/a_1", "runs/b#2"])
    tables = render_tables([ODD, NAMED, evaluation_table(ONE.metrics), two, ALL_PUBLISHED], "latex")
    text = f"\\documentclass{{article}}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    call = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "t.tex"]
    result = subprocess.run(call, cwd=tmp_path, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


def test_csv_opens_in_pandas_and_runs_no_formula() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(render_tables([ODD], "csv")))
    assert list(frame.columns) == ["name | it", "value", "n", "protocol"]
    assert frame["value"].dropna().tolist() == [12.345, 7]
    assert not frame["name | it"].str.startswith("=").any()
    whole = pandas.read_csv(io.StringIO(ONE.to_csv()))
    assert whole["value"].dtype.kind == "f"


def test_differences_are_percent_points() -> None:
    other = evaluate(SCENES, spoil(SCENES, 0.2, 1), QWEN, resamples=0)
    difference = compare(ONE, other, resamples=20)
    table = comparison_table(difference, ["one", "other"])
    row = next(row for row in table.rows if row[0] == "mAP")
    assert row[3] == pytest.approx(difference["metrics"]["mAP"]["difference"] * 100)
    two = read_csv(render_tables([table, table], "csv"))
    assert len(two) == 2 * len(table.rows)  # one header
    assert {line["runs"] for line in two} == {"one | other"}


def test_a_protocol_line_leaves_out_what_always_holds() -> None:
    line = protocol_line(ONE.metrics["protocol"])
    assert "matching" not in line
    assert "None" not in line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from boxrl.data.predictions import render_prediction
    from boxrl.data.samples import write_samples

    write_samples(tmp_path / "s.jsonl", SCENES)
    rows = spoil(SCENES, 0.5, 0).values()
    (tmp_path / "p.jsonl").write_text("".join(render_prediction(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_verbs_print_the_table_and_nothing_else(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", f"--samples={folder / 's.jsonl'}", f"--predictions={folder / 'p.jsonl'}"]
    call += ["--family=qwen2.5-vl", "--resamples=20", f"--out={folder / 'e'}", f"--format={form}"]
    assert main(call) == 0
    evaluation = evaluate(SCENES, spoil(SCENES, 0.5, 0), QWEN, resamples=20)
    assert capsys.readouterr().out == shown(evaluation, form)
    runs = [str(folder / "e")] * 2
    assert main(["compare", *runs, "--resamples=20", f"--format={form}"]) == 0
    assert capsys.readouterr().out.startswith({"m": "**a = ", "l": r"\begin", "c": '"met'}[form[0]])
    assert main([*call, "--json"]) == 2
    assert "choose one" in capsys.readouterr().err


def test_next_commands_take_folders_with_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    _print_end(ONE.metrics, Path("my runs/a"))
    assert "next: boxrl report 'my runs/a'\n" in capsys.readouterr().out


def test_a_difference_has_the_decimals_of_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(compare(ONE, ONE, resamples=5), ("one", "one"))
    assert re.search(r"tokens, mean +10\.0 +10\.0 +\+0\.0 ", capsys.readouterr().out)


def shown(evaluation: Evaluation, form: Any) -> str:
    return render_tables([evaluation_table(evaluation.metrics)], form)


def test_json_and_a_form_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b", "--json", "--format=csv"]) == 2
    assert "choose one" in capsys.readouterr().err
