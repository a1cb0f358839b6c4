"""Completion in shells, which click brings along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "autohybrid"
pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not shutil.which("bash"), reason="not installed, or no bash")


def _told(**variables: str) -> str:
    changed = {**os.environ, **variables}
    return subprocess.run([PROGRAM], env=changed, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    assert "_AUTOHYBRID_COMPLETE" in _told(_AUTOHYBRID_COMPLETE=f"{shell}_source")


def test_names_of_commands_are_completed() -> None:
    found = _told(_AUTOHYBRID_COMPLETE="bash_complete", COMP_WORDS="autohybrid ca", COMP_CWORD="1")
    assert found == "plain,cache\n"
