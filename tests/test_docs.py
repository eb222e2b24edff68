"""Commands in README.md and docs/ are the program's own.

Every ```bash block is held against the parser, the Makefile and the extras. Blocks of the classes
`run` and `slow` are also run, page by page, in a folder that holds what the page assumes: the
tiny VLM stands in the place of a downloaded model, and training is cut to two steps.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import dropwhile, pairwise
from pathlib import Path
from runpy import run_path

import pytest
from pydantic import BaseModel

from boxrl import __version__
from boxrl.cli import build_parser, main
from boxrl.config import Recipe
from boxrl.data.samples import write_samples
from boxrl.data.synthetic import World, scenes

ROOT = Path(__file__).parents[1]
CLASSES = ("parse", "run", "slow")
"""Of a ```bash block, in its fence: ```bash {.run}. From the quickest to the slowest.

`run` and `slow` blocks are run, slow ones by `make test-slow`; `parse` is for what needs a GPU, a
cluster, a server, an archive or a network.
"""
OTHER_PROGRAMS = {"git", "cd", "hf", "sbatch", "sky", "docker", "vllm", "export", "pytest"}
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
BLOCK = re.compile(r"^( *)```bash *([^\n]*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def read_blocks(page: str) -> list[tuple[str, list[str]]]:
    """(class, commands) of each ```bash block: continued lines joined, comments dropped."""
    blocks = []
    for _, info, body in BLOCK.findall((ROOT / page).read_text("utf-8")):
        joined = body.replace("\\\n", " ")
        lines = [" ".join(shlex.split(line, comments=True)) and line for line in joined.split("\n")]
        blocks.append((info.strip("{.}"), [line.strip() for line in lines if line]))
    return blocks


def split(command: str) -> list[str]:
    """Its words, without settings of variables and without a redirection."""
    words = shlex.split(command, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    return list(dropwhile(lambda word: re.match(r"[A-Z]+=", word), words))


def read_pages_with(slowest: str) -> list[str]:
    """Pages with a block of this class, and with nothing slower."""
    return [page for page in PAGES if max(map(_rank, read_blocks(page)), default=-1)
            == CLASSES.index(slowest)]  # fmt: skip


def _rank(block: tuple[str, list[str]]) -> int:
    return CLASSES.index(block[0]) if block[0] in CLASSES else -1


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_whether_it_is_run(page: str) -> None:
    for kind, commands in read_blocks(page):
        assert kind in CLASSES, (
            f"{page}: write ```bash {{.run}}, {{.slow}} or {{.parse}} above {commands[0]!r}"
        )


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_as_many_columns_as_their_rule(page: str) -> None:
    lines = (ROOT / page).read_text("utf-8").replace("\\|", "").split("\n")
    for head, rule in pairwise(lines):
        if re.fullmatch(r"\|(:?-+:?\|)+", rule.replace(" ", "")):
            assert head.count("|") == rule.count("|"), f"{page}: no table below {head!r}"


def check_command(command: str) -> None:
    """A command that exists, with options that it takes."""
    words = split(command)
    if words[0] == "boxrl":
        try:
            args = build_parser().parse_known_args(words[1:])
        except SystemExit as error:
            raise AssertionError(f"boxrl does not take: {command}") from error
        unknown = [word for word in args[1] if word.startswith("-") or "=" not in word]
        assert not unknown, f"{command}: no option {unknown}"
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        targets = [word for word in words[1:] if "=" not in word and word not in ("&&", "make")]
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    elif words[0] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        extras = ",".join(re.findall(r"boxrl\[(.*?)\]", command)).split(",")
        assert set(extras) <= {"", *project["optional-dependencies"]}, command
    else:
        assert words[0] in OTHER_PROGRAMS, f"{command}: a program that no class knows"
        ours = [word for word in words if word.startswith(("deploy/", "recipes/"))]
        assert all((ROOT / word).exists() for word in ours), command


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page: str) -> None:
    for _, commands in read_blocks(page):
        for command in commands:
            check_command(command)


def verb_parser(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that the leading words lead to, and the words after them."""
    parser = build_parser()
    for number, word in enumerate(words):
        groups = parser._subparsers
        choices = groups._group_actions[0].choices if groups else None
        if choices is None:
            return parser, words[number:]
        assert word in choices, f"boxrl {' '.join(words)}: no verb {word!r}"
        parser = choices[word]  # type: ignore[call-overload]
    return parser, []


@pytest.mark.parametrize("page", PAGES)
def test_options_in_running_text_exist(page: str) -> None:
    text = BLOCK.sub("", (ROOT / page).read_text("utf-8"))
    for code in re.findall(r"`boxrl ([a-z][^`]*)`", text):
        words = code.split()
        parser, rest = verb_parser([word for word in words if not word.startswith("[")])
        for option in re.findall(r"--[a-z][a-z-]*", " ".join(rest)):
            assert option in parser._option_string_actions, f"{page}: boxrl {code}: no {option}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what the pages assume, as the working directory."""
    folder = tmp_path / "work"
    data = folder / "runs" / "quickstart" / "data"
    (data / "images").mkdir(parents=True)
    drawn = {
        name: list(scenes(World(), 12, seed=5, split=name)) for name in ("train", "test", "other")
    }
    for name, rows in drawn.items():
        for scene in rows:
            scene.image.save(data / "images" / scene.sample.image)
        write_samples(data / f"{name}.jsonl", [scene.sample for scene in rows])
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # undone afterwards, also what a verb adds
    for name in ("train2017", "images", "coco/train2017", "d3/images"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(data / "images")
    for name, source in (
        ("train", "train"), ("val", "test"), ("coco", "train"), ("d3", "other"),
    ):  # fmt: skip
        (folder / f"{name}.jsonl").write_bytes((data / f"{source}.jsonl").read_bytes())
        for target in (f"instances_{name}.json", f"instances_{name}2017.json"):
            run(f"boxrl data export coco {name}.jsonl --out {target}")
    (folder / "instances.json").write_bytes((folder / "instances_train.json").read_bytes())
    weights = ROOT / "src/boxrl/engines/tiny/weights"
    for owner in ("models", "Qwen"):  # a folder of that name is taken before the hub
        (folder / owner).mkdir()
        (folder / owner / "Qwen2.5-VL-3B-Instruct").symlink_to(weights / "taught")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    run("boxrl data export vlmr1 train.jsonl --out ovd.jsonl")
    write_page_files(folder)
    return folder


def write_page_files(folder: Path) -> None:
    """What pages ask the reader to write."""
    (folder / "finished.jsonl").write_text(
        '{"id": "1", "completion": "<answer>[]</answer>", "objects": []}\n'
    )
    page = (ROOT / "docs/howto/add_reward.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (folder / "my_rewards.py").write_text(code.group(1))


def run(command: str) -> None:
    """One boxrl command of a page, in this process, training cut to two steps."""
    words = split(command)
    out = command.split()[-1] if " > " in command else None
    if words[1] == "train":
        words += ["train.max_steps=2", "train.save_steps=1"]
    if words[1] == "train" and words[2] == "recipes/quickstart.yaml":
        words += ["data.synthetic.train=24", "data.synthetic.test=12"]
    with contextlib.ExitStack() as stack:
        if out:
            stack.enter_context(
                contextlib.redirect_stdout(stack.enter_context(Path(out).open("w")))
            )
        assert main(words[1:]) in (0, None), command


def run_page(page: str) -> Iterator[str]:
    """Run the blocks that are to be run; yields the commands."""
    for kind, commands in read_blocks(page):
        for command in commands if kind != "parse" else ():
            if split(command)[0] == "boxrl":
                run(command)
                yield command


@pytest.mark.parametrize("page", read_pages_with("run"))
def test_the_commands_of_a_page_run(page: str, workplace: Path) -> None:
    assert list(run_page(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", read_pages_with("slow"))
def test_the_commands_of_a_page_that_trains_run(page: str, workplace: Path) -> None:
    pytest.importorskip("torch")
    assert list(run_page(page))


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_python_of_a_page_gives_what_its_last_comment_says(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        body, _, said = code.rpartition("# ")
        *setup, call = re.split(r"\n(?=\w)", body.strip())
        names: dict[str, object] = {}
        exec("\n".join(setup), names)
        assert repr(eval(call, names)) == said.strip()


def test_the_readme_says_what_the_benchmark_measured() -> None:
    module = run_path(str(ROOT / "perf" / "run_all.py"))
    measured = module["render_gain"](module["read_sections"]())
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme.partition(module["BEGIN"])[2].partition(module["END"])[0] == measured


def test_the_performance_page_begins_with_what_a_prompt_costs() -> None:
    module = run_path(str(ROOT / "perf" / "run_all.py"))
    page = module["PAGE"].read_text("utf-8")
    lead = module["render_lead"](module["read_sections"]())
    assert page.startswith(module["INTRODUCTION"].format(lead=lead))


def test_every_file_that_code_and_pages_name_exists() -> None:
    named = re.compile(r"\b(?:tests|docs|perf|recipes|src/boxrl)/[\w/.-]+\.(?:py|md|yaml|json)\b")
    made_up = {"docs/findings/NAME.json", "src/boxrl/data/formats/mine.py"}
    readers = [*(ROOT / "src").rglob("*.py"), *(ROOT / "perf").glob("*.py")]
    for path in [*readers, *(ROOT / page for page in PAGES)]:
        for name in set(named.findall(path.read_text("utf-8"))) - made_up:
            assert (ROOT / name).exists(), f"{path}: there is no {name}"


NAME_IN_FILE = re.compile(r"`(\w+)` in `((?:src|tests|perf)/[\w/.-]+\.py)`")


@pytest.mark.parametrize("page", PAGES)
def test_a_name_that_a_page_puts_into_a_file_is_there(page: str) -> None:
    for name, file in NAME_IN_FILE.findall((ROOT / page).read_text("utf-8")):
        defined = rf"^(?:def|class) {name}\b|^{name}\b.* = "
        found = re.search(defined, (ROOT / file).read_text("utf-8"), re.MULTILINE)
        assert found, f"{page}: {file} does not define {name}"


def test_where_would_i_look_names_two_files_at_most_and_a_page() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = page.partition("## Where would I look")[2].partition("\n\nThe how-tos")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "`" in line]
    assert len(rows) == 9
    for task, places, said in rows:
        files = NAME_IN_FILE.findall(places)
        assert 1 <= len(files) <= 2, task
        assert places.count(".py`") == len(files), f"{task}: a file without its registry"
        pages = re.findall(r"`(docs/[\w/]+\.md)`", said)
        assert [*map(Path.is_file, (ROOT / page for page in pages))] == [True], task


def test_contributing_lists_the_layers_of_the_import_contract() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    contract = tools["importlinter"]["contracts"][0]
    assert f"`{' > '.join(contract['layers'])}`" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def recipe_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a recipe; sections that may be left out count as one key."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from recipe_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_key_of_a_recipe_has_its_row() -> None:
    page = (ROOT / "docs/howto/train_your_own.md").read_text("utf-8")
    table = page.partition("## The recipe")[2].partition("\n## ")[0]
    assert [key for key in recipe_keys(Recipe) if f"`{key}`" not in table] == []


def test_the_changelog_keeps_to_its_form() -> None:
    known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    versions = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1:]
    for version in versions:
        kinds = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert kinds == [kind for kind in known if kind in kinds], version.partition("\n")[0]
        assert "\n- " not in version.partition("\n### ")[0], "an entry under no heading"


def test_every_place_names_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert __version__ == project["version"]
    assert f"\nversion: {__version__}\n" in citation


def test_a_seed_is_a_random_seed_and_weights_are_under_trained() -> None:
    wrong = re.compile(
        r"[Tt]he[ \n]+seed(?! (?:of|that|is|in)\b)|\bseed's|seed blog|half[- ]taught"
    )
    folders = (ROOT / name for name in ("src", "docs", "recipes", "perf"))
    paths = [path for folder in folders for path in folder.rglob("*")
             if path.suffix in (".py", ".md", ".yaml", ".json")]  # fmt: skip
    for path in [*paths, *(ROOT / page for page in PAGES)]:
        found = wrong.search(path.read_text("utf-8"))
        assert not found, f"{path}: {found[0]!r}; say the VLM-R1-OVD blog, or under-trained"


def list_packages() -> set[str]:
    """Packages and modules right below boxrl."""
    paths = (ROOT / "src/boxrl").iterdir()
    names = {path.stem for path in paths if path.suffix in ("", ".py")}
    return {name for name in names if not name.startswith("_")}


def test_every_package_has_a_page_in_the_python_reference() -> None:
    pages = re.findall(r"reference/(\w+)\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))
    assert list_packages() == set(pages)


def test_the_architecture_page_names_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \|.*\| `(src/[\w/.]+)` \|$", page, re.MULTILINE)
    assert list_packages() == {name for names, _ in rows for name in re.findall(r"\w+", names)}
    assert all((ROOT / file).is_file() for _, file in rows)
