"""What ``autohybrid env`` tells, and what it doesn't."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from commands import autohybrid

import autohybrid as package
from autohybrid import device, engines, inventory
from autohybrid.sizes import parsed_size, size_text


def test_what_a_bug_report_needs_is_there_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOHYBRID", "off")
    found = package.env()
    assert found.autohybrid == package.__version__
    assert found.device == "cpu"
    assert {engine.name for engine in found.engines} >= {"incubate", "predictor"}
    assert found.libraries["numpy"]
    assert found.variables["AUTOHYBRID"] == "off"
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("Paddle", "processor", "cores", "engine predictor", "cache", "usable"):
        assert part in text


def test_nothing_private_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "somebody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AUTOHYBRID_CACHE", f"{home}/cache")
    monkeypatch.setenv("FLAGS_dump", f"/opt:{home}/dump:{home}")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    text = str(package.env())
    assert "somebody" not in text
    assert "hidden" not in text
    assert "~/cache" in text
    assert "/opt:~/dump:~" in text


@pytest.mark.parametrize(
    ("text", "told"), [("{home}", "~"), ("{home}x/a", "{home}x/a"), ("a {home}/b", "a ~/b"), ("/else", "/else")]
)
def test_only_the_home_directory_itself_is_shortened(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert inventory.without_home(text.format(home="/home/me")) == told.format(home="/home/me")


def test_an_engine_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint(name="broken", value="no_such_module:Engine", group=engines.GROUP)
    monkeypatch.setattr(inventory, "offered", lambda: [broken])
    (found,) = package.env().engines
    assert "no_such_module" in found.unavailable


def test_it_works_without_paddle() -> None:
    code = "import sys; sys.modules['paddle'] = None; import autohybrid; print(autohybrid.env())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "none: Paddle can't be imported" in done.stdout
    assert "not usable: can't be loaded" in done.stdout


def test_a_cache_that_others_may_write_to_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    (place / "file").write_bytes(b"x" * 2048)
    monkeypatch.setenv("AUTOHYBRID_CACHE", str(place))
    found = package.env().cache
    assert "Others may write" in found.problem
    assert found.permissions == "drwxrwxrwx, yours"
    assert found.size == 2048
    monkeypatch.setenv("AUTOHYBRID_CACHE", str(tmp_path / "none"))
    assert package.env().cache.permissions == "not there yet"
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("AUTOHYBRID_CACHE", "off")
    assert package.env().cache.place == "off"


def _written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_limits_of_control_groups_are_read_in_both_versions(tmp_path: Path) -> None:
    second = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/b/memory.max": "1073741824\n",
    }
    found = _written(tmp_path / "2", second)
    assert (device.core_limit(found), device.memory_limit(found)) == (1.5, 1 << 30)
    first = {
        "proc/self/cgroup": "3:cpu,cpuacct:/\n2:memory:/here\n1:pids:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/here/memory.limit_in_bytes": "4096\n",
    }
    found = _written(tmp_path / "1", first)
    assert (device.core_limit(found), device.memory_limit(found)) == (0.5, 4096)
    free = _written(tmp_path / "0", {**first, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"})
    assert device.core_limit(free) is None
    assert device.core_limit(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (300 << 20, "300 MiB")]
)
def test_sizes_are_shown_with_the_unit_that_fits(size: int, text: str) -> None:
    assert size_text(size) == text
    assert parsed_size(text.replace(" B", "")) == size


def test_the_command_tells_the_same_in_two_formats(tmp_path: Path) -> None:
    table = autohybrid("env", cwd=tmp_path)
    assert (table.code, table.err) == (0, "")
    assert max(map(len, table.out.splitlines())) <= 80
    content = json.loads(autohybrid("env", "--format", "json", cwd=tmp_path).out)
    assert content["paddle"].split(",")[0] in table.out
    assert content["cores"] >= 1
