"""The shape of the package, held by a machine."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import autohybrid

PACKAGE = Path(autohybrid.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    ("errors", "logs"),
    ("stats", "device", "structure", "sizes", "offers"),
    ("plan", "store", "isolation"),
    ("engines", "report", "roots"),
    ("observe", "runtime"),
    ("search", "decorator", "exports"),
    ("progress",),
    ("notebook", "inventory", "cache"),
    ("cli",),
)
"""From the bottom to the top. A part may import what lies below it, and itself."""

HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}

OWNERS = {
    "click": ["cli/"],
    "onnx": ["engines/onnx_graph.py"],
    "onnxruntime": ["engines/onnxruntime.py"],
    "openvino": ["engines/openvino.py"],
    "paddle2onnx": ["engines/onnx_export.py"],
    "scipy.optimize": ["search/choose.py"],
    "scipy.sparse": ["search/choose.py"],
    "msgspec": [
        "plan/",
        "store/",
        "isolation.py",
        "report/data.py",
        "report/measurement.py",
        "cli/",
        "observe/script.py",
        "search/",
        "exports/code.py",
    ],
    "paddle": [
        "structure.py",
        "decorator.py",
        "device.py",
        "roots.py",
        "engines/",
        "observe/",
        "runtime/",
        "search/",
        "exports/",
    ],
    "numpy": [
        "stats.py",
        "structure.py",
        "engines/graphs.py",
        "engines/openvino.py",
        "observe/",
        "runtime/",
        "search/",
    ],
}
"""Who may import a library."""

PADDLE_FREE = [
    "autohybrid",
    "autohybrid.cache",
    "autohybrid.cli",
    "autohybrid.cli.worker",
    "autohybrid.cli.report",
    "autohybrid.cli.cache",
    "autohybrid.cli.export",
    "autohybrid.exports.code",
    "autohybrid.cli.bench",
    "autohybrid.cli.check",
    "autohybrid.cli.diff",
    "autohybrid.cli.env",
    "autohybrid.plan",
    "autohybrid.report.table",
    "autohybrid.report.html",
]


def _name(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def _part(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(file: Path) -> Iterator[str]:
    """The full names of all modules and names that a file imports, wherever in it, but not for types only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _owned_wrongly(library: str, owners: list[str]) -> list[str]:
    return [
        _name(file)
        for file in FILES
        if any(f"{name}.".startswith(f"{library}.") for name in _imported(file))
        and not any(_name(file) == owner or (owner.endswith("/") and _name(file).startswith(owner)) for owner in owners)
    ]


def test_every_file_belongs_to_a_layer() -> None:
    assert {_part(file) for file in FILES} - {"__init__", "__main__"} == set(HEIGHT)


@pytest.mark.parametrize("file", [file for file in FILES if _part(file) in HEIGHT], ids=_name)
def test_imports_go_one_way(file: Path) -> None:
    for name in _imported(file):
        parts = name.split(".")
        if parts[0] == "autohybrid" and len(parts) > 1 and parts[1] in HEIGHT:
            assert parts[1] == _part(file) or HEIGHT[parts[1]] < HEIGHT[_part(file)], f"{_name(file)} imports {name}"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    assert _owned_wrongly(library, OWNERS[library]) == []


def test_tabulate_is_imported_by_the_report_only() -> None:
    assert _owned_wrongly("tabulate", ["report/table.py"]) == []


def test_the_search_for_wrong_owners_finds_them() -> None:
    assert _owned_wrongly("click", []) != []


def test_every_library_that_is_imported_is_owned_or_of_python() -> None:
    known = {library.split(".")[0] for library in OWNERS} | {"autohybrid", "tabulate"} | set(sys.stdlib_module_names)
    assert {name.split(".")[0] for file in FILES for name in _imported(file)} - known == set()


@pytest.mark.parametrize("module", PADDLE_FREE)
def test_paddle_is_not_imported_by(module: str) -> None:
    code = f"import sys, {module}; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_imports_no_scipy_either() -> None:
    code = "import sys, autohybrid; sys.exit('scipy' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_APPLYING = """
import sys, paddle
before = set(sys.modules)
import autohybrid
autohybrid.apply
print(*(set(sys.modules) - before))
"""


def test_applying_a_plan_imports_little() -> None:
    """Every later start pays for it. What Paddle imports by itself is there anyway."""
    done = subprocess.run([sys.executable, "-c", _APPLYING], check=True, capture_output=True, text=True)
    needless = ("asyncio", "click", "scipy", "tabulate", "unittest", "autohybrid.report", "autohybrid.search")
    assert [name for name in done.stdout.split() if f"{name}.".startswith(tuple(f"{each}." for each in needless))] == []


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_no_file_is_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 500


def _forbidden(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    name = ast.unparse(node.func)
    if name.split(".")[0] in ("pickle", "marshal", "shelve") or name in ("eval", "paddle.load", "os.system"):
        return name
    return "shell=True" if any(keyword.arg == "shell" for keyword in node.keywords) else ""


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_nothing_runs_text_or_pickles(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert [found for node in ast.walk(tree) if (found := _forbidden(node))] == []
    executed = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "exec"]
    assert not executed or _name(file) == "observe/script.py", "only the user's own script is run from its source"


@pytest.mark.parametrize("text", ["eval('1')", "pickle.loads(b'')", "run('ls', shell=True)", "marshal.load(f)"])
def test_what_is_forbidden_is_recognised(text: str) -> None:
    assert _forbidden(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("name", [name for name in autohybrid.__all__ if name != "__version__"])
def test_what_is_public_is_there_and_documented(name: str) -> None:
    public = getattr(autohybrid, name)
    assert inspect.getdoc(public)
    assert name in dir(autohybrid)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        autohybrid.nonsense  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))
