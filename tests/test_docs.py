"""The docs say what is so: links lead somewhere, options exist, code blocks run, both front pages say the same."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import commands
import paddle
import pytest
from recordings import RECORDED

import autohybrid
from autohybrid import cli

ROOT = Path(__file__).resolve().parent.parent
FRONT, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
GUIDES = sorted((ROOT / "docs" / "commands").glob("*.md"))
PAGES = [
    FRONT,
    CHINESE,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *GUIDES,
]
BLOCK = re.compile(r"(<!-- not run: .*? -->\n+)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

_GROUP: click.Group = next(value for value in vars(cli).values() if isinstance(value, click.Group))

CHEAP = ("report", "diff", "export", "env", "cache")
"""Commands that are run as they stand; the others take a profile's time, and have tests of their own."""


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, language: str) -> list[str]:
    return [text for refused, kind, text in BLOCK.findall(page.read_text()) if kind == language and not refused]


def _without_comments(block: str) -> str:
    return "\n".join(line.split(" #")[0].rstrip() for line in block.splitlines())


def _outline(page: Path) -> tuple[list[str], list[str], set[str]]:
    """The levels of the headings, the code blocks without comments, where the links lead other than to each other."""
    text = page.read_text()
    prose = BLOCK.sub("", text)
    levels = [line.split(" ")[0] for line in prose.splitlines() if line.startswith("#")]
    code = [_without_comments(block) for _, _, block in BLOCK.findall(text)]
    return levels, code, set(LINK.findall(prose)) - {FRONT.name, CHINESE.name}


def test_both_front_pages_say_the_same() -> None:
    english, chinese = _outline(FRONT), _outline(CHINESE)
    assert chinese == english


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target.split("#")[0]).exists(), target


def _command_lines(page: Path) -> Iterator[list[str]]:
    for _, _, text in BLOCK.findall(page.read_text()):
        prompt = "$ " if "$ " in text else ""  # the other lines are what was answered
        for line in text.splitlines():
            words = line.removeprefix(prompt)
            if line.startswith(prompt) and words.startswith("autohybrid "):
                yield shlex.split(words, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_options_in_the_docs_exist(page: Path) -> None:
    for words in _command_lines(page):
        command: click.Command = _GROUP
        rest = words
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, " ".join(words)
            command, rest = found, rest[1:]
        known = {name for parameter in command.params for name in parameter.opts}
        script = next((place for place, word in enumerate(rest) if word.endswith(".py")), len(rest))
        for word in rest[: script + 1]:
            if word.startswith("-"):
                assert word in known, " ".join(words)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a script, a plan of it, and an older one."""
    shutil.copy(commands.SCRIPTS / "chained.py", tmp_path / "infer.py")
    for name in ("plan.json", "old.json"):
        shutil.copy(RECORDED / "chained.json", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _cheap_lines() -> list[str]:
    lines = {shlex.join(words) for page in PAGES for words in _command_lines(page) if words[0] in CHEAP}
    return sorted(line for line in lines if "--static" not in line and "warm" not in line and "clear" not in line)


@pytest.mark.parametrize("line", _cheap_lines())
def test_commands_in_the_docs_run(line: str, here: Path) -> None:
    done = commands.autohybrid(*shlex.split(line), cwd=here)
    assert done.code == 0, done.err


def _python_blocks() -> list[tuple[str, int, str]]:
    pages = [page for page in PAGES if page != CHINESE]
    return [(_named(page), number, text) for page in pages for number, text in enumerate(_blocks(page, "python"))]


@pytest.mark.parametrize(
    ("page", "number", "text"), _python_blocks(), ids=[f"{page}-{number}" for page, number, _ in _python_blocks()]
)
def test_python_in_the_docs_runs(page: str, number: int, text: str, here: Path) -> None:
    names: dict[str, Any] = {"__name__": "infer"}
    exec(compile((here / "infer.py").read_text(), "infer.py", "exec"), names)
    for kind in (names["Refiner"], names["Block"]):
        kind.__module__ = "__main__"  # as when it was profiled
    model = names["Refiner"]()
    model.eval()
    layer = paddle.nn.Linear(4, 4)
    x = paddle.ones([1, 48, 256])
    names.update(autohybrid=autohybrid, paddle=paddle, model=model, layer=layer, x=x, plan="plan.json")
    with paddle.no_grad():
        exec(compile(text, f"{page}, block {number}", "exec"), names)
    for each in (model, names["layer"]):
        autohybrid.restore(each)


def _commands() -> list[str]:
    return _GROUP.list_commands(click.Context(_GROUP))


@pytest.mark.parametrize("name", _commands())
def test_each_command_has_a_page_and_its_options_are_real(name: str) -> None:
    page = ROOT / "docs" / "commands" / f"{name}.md"
    text = page.read_text()
    assert f"]({name}.md)" in (page.parent / "README.md").read_text()
    command = _GROUP.get_command(click.Context(_GROUP), name)
    assert command is not None
    parts = [command]
    if isinstance(command, click.Group):
        parts += command.commands.values()
    known = {option for part in parts for parameter in part.params for option in parameter.opts}
    prose = BLOCK.sub("", text)
    elsewhere = {option for other in _commands() if f"({other}.md)" in prose for option in _options(other)}
    for option in re.findall(r"`(--?[a-z][a-z-]*)", prose):
        assert option in known | elsewhere, f"{option} in {page.name}"


def _options(name: str) -> set[str]:
    command = _GROUP.get_command(click.Context(_GROUP), name)
    return {option for parameter in command.params for option in parameter.opts} if command else set()
