"""What files and servers say is shown as it is: no markup, no codes that a terminal obeys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from boxrl.cli import main
from boxrl.cli.benchmark import print_cited
from boxrl.cli.doctor import _verdict
from boxrl.cli.tables import print_change
from boxrl.data.samples import write_samples
from boxrl.evaluate.tables import CitedTable
from tests.support.chat_server import chat_server
from tests.support.evaluations import A, answer, sample
from tests.support.served import call

HOSTILE = "[/red] [bold]cat\x1b]0;owned\x07\x1b[2J"
SHOWN = "[/red] [bold]cat⟨U+001B⟩]0;owned"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_samples(tmp_path / "s.jsonl", [sample("a", (A, HOSTILE), labels=(HOSTILE,))])
    row = {"id": "a", "completion": answer((A, HOSTILE)), "finish_reason": "stop"}
    for name, prompt in (("one", "standard"), ("two", HOSTILE)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        settings = {"model": HOSTILE, "family": "plain", "prompt": prompt}
        (tmp_path / f"{name}.meta.json").write_text(json.dumps(settings))
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\x07" not in out + err
    return " ".join(out.split())


def test_labels_models_and_prompts_are_shown_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert SHOWN in shown(capsys, "data", "stats", folder / "s.jsonl")
    for name in ("one", "two"):
        call = ("--samples", folder / "s.jsonl", "--predictions", folder / f"{name}.jsonl")
        said = shown(capsys, "evaluate", *call, "--out", folder / name)
        assert said.count(SHOWN) >= 2  # by label, and the model in the protocol
    said = shown(capsys, "compare", folder / "one", folder / "two", "--force")
    assert "protocol differs: prompt is 'standard' and '[/red] [bold]cat" in said


@pytest.mark.parametrize("first", [0, 1], ids=["of the probe", "of a question"])
def test_a_servers_own_words_are_shown_as_they_are(
    first: int, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = json.dumps({"error": {"message": f"refused {HOSTILE}"}})
    choice = {"message": {}, "error": {"message": f"refused {HOSTILE}"}}
    ended = json.dumps({"choices": [choice | {"finish_reason": "content_filter"}]})
    refusal = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(failed)}\r\n\r\n{failed}"
    with chat_server(lambda n, _: (ended if n else refusal) if n >= first else None) as server:
        words = call(scene_folder, tmp_path / "p", "--limit", "1", "--base-url", server.url)
        assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert "refused" in error or "filter" in error
    assert "\x1b" not in error


def test_ids_and_folders_in_brackets_are_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = _verdict("f1", {"probes": {}, "zero_variance": ["[/x]\x1b[2J", "[bold]"]})
    print_change(Console(), "prompt 'runs/[v2]/p.yaml'", {"metrics": {}, "flipped": {}}, {})
    Console().print(said)
    out = capsys.readouterr().out
    assert "runs/[v2]/p.yaml" in out and "([/x]⟨U+001B⟩[2J, [bold])" in out


def test_a_table_to_cite_shows_small_prices(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("benchmark", "value", "price / 1,000")
    print_cited(CitedTable(HOSTILE, columns, (("coco", 41.25, 0.028), ("[/x]", None, 12.0))))
    said = " ".join(capsys.readouterr().out.split())
    assert "rates in percent" in said
    assert "coco 41.2 0.03" in said and "[/x] - 12.0" in said
