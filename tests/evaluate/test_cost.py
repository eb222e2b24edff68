"""What answers cost: counted by hand, and unknown where nobody counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.predictions import render_prediction
from boxrl.data.samples import write_samples
from boxrl.evaluate import evaluate
from boxrl.evaluate.cost import cost, mean_cost
from boxrl.evaluate.tables import evaluation_table
from tests.support.evaluations import PLAIN, A, prediction, sample

ROWS = [
    prediction("1", "None", n_tokens=10, n_prompt_tokens=100),
    prediction("2", "None", n_tokens=30, n_prompt_tokens=300),
    prediction("3", "", n_tokens=0, finish_reason="error", error="time-out"),
]
TIMED = {"timing": {"seconds": 5.0, "answers": 2}}


def test_means_are_per_answer_and_prices_per_thousand() -> None:
    assert cost(ROWS, TIMED, (0.2, 0.6)) == pytest.approx(
        {"prompt_tokens": 200, "completion_tokens": 20, "seconds": 2500,
         "price": 1000 * (200 * 0.2 + 20 * 0.6) / 1e6}
    )  # fmt: skip


def test_thoughts_that_a_server_counts_beside_the_completion_are_paid_for() -> None:
    hidden = [prediction("1", "None", n_tokens=40, n_prompt_tokens=700, n_hidden_tokens=500)]
    found = cost(hidden, {}, (0.2, 0.6))
    assert found["completion_tokens"] == 540
    assert found["price"] == pytest.approx(1000 * (700 * 0.2 + 540 * 0.6) / 1e6)


@pytest.mark.parametrize(
    "timing", [None, 3, [], {}, {"seconds": 1}, {"seconds": 1, "answers": 0},
               {"seconds": "1", "answers": 2}, {"seconds": -1, "answers": 2}],
)  # fmt: skip
def test_what_nobody_counted_is_unknown(timing: object) -> None:
    unknown = [*ROWS, prediction("4", "None", n_tokens=None)]
    found = cost(unknown, {"timing": timing}, (1, 1))
    assert found == dict.fromkeys(("prompt_tokens", "completion_tokens", "seconds", "price"))


def test_several_sets_weigh_by_their_answers() -> None:
    parts = [{"n": 1, "cost": {"prompt_tokens": 10.0, "seconds": 4.0}},
             {"n": 3, "cost": {"prompt_tokens": 30.0, "seconds": None}}]  # fmt: skip
    assert mean_cost(parts)["prompt_tokens"] == pytest.approx(25)
    assert mean_cost(parts)["seconds"] is None
    assert mean_cost([{"n": 2}])["price"] is None


def test_tables_show_it_and_a_small_price_is_not_nothing() -> None:
    asked = {"1": sample("1", (A, "cat"))}
    rows = {"1": prediction("1", "None", n_tokens=2, n_prompt_tokens=7)}
    found = evaluate([*asked.values()], rows, PLAIN, resamples=0, settings=TIMED, price=(1, 1))
    cells = {row[0]: row[1] for row in evaluation_table(found.metrics).rows}
    assert cells["prompt tokens per answer"] == 7
    assert cells["seconds per 1,000 answers"] == 2500
    assert cells["price of 1,000 answers"] == pytest.approx(0.009)
    assert "| price of 1,000 answers | 0.009 |" in found.to_markdown()


def test_evaluate_takes_the_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(tmp_path / "s.jsonl", [sample("1", (A, "cat"))])
    row = prediction("1", "None", n_tokens=2, n_prompt_tokens=8)
    (tmp_path / "p.jsonl").write_text(render_prediction(row) + "\n")
    call = ["evaluate", f"--samples={tmp_path / 's.jsonl'}", "--family=plain", "--json"]
    call += [f"--predictions={tmp_path / 'p.jsonl'}", "--resamples=0"]
    assert main([*call, "--price=1,10"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["price"] == pytest.approx(0.028)
    with pytest.raises(SystemExit):
        main([*call, "--price=1"])
    assert "expected two prices, IN,OUT" in capsys.readouterr().err
