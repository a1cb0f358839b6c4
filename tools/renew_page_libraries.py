"""Renews the JavaScript libraries that the HTML report embeds, from the npm registry.

Usage: python tools/renew_page_libraries.py [--check]

Needs npm. Packs the versions named below, verifies that they are what the registry published (npm does that by their
digests), and writes the minified script and the licence of each beside the page, with a list of what is there. To take
a newer version, change it here. ``--check`` only compares.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSIONS = {"d3-array": "3.2.5", "d3-hierarchy": "3.1.3", "d3-selection": "3.0.1"}

PURPOSES = {
    "d3-array": "bins and ticks of the distributions",
    "d3-hierarchy": "the layout of the icicle chart",
    "d3-selection": "making and sorting elements; text stays text",
}

PLACE = Path(__file__).resolve().parent.parent / "autohybrid" / "report" / "html" / "vendor"


def main() -> int:
    """Writes the files, or compares them; returns 1 when a comparison fails."""
    files = made()
    if "--check" in sys.argv:
        stale = [name for name, content in files.items() if _held(name) != content]
        print("stale: " + ", ".join(stale) if stale else "up to date")
        return 1 if stale else 0
    for name, content in files.items():
        (PLACE / name).write_bytes(content)
    return 0


def made() -> dict[str, bytes]:
    """The content of each file, by name."""
    files: dict[str, bytes] = {}
    rows = []
    for package, version in VERSIONS.items():
        parts = _packed(package, version)
        described = json.loads(parts["package.json"])
        script = parts[f"dist/{package}.min.js"]
        files[f"{package}.min.js"] = script
        files[f"{package}.LICENSE"] = parts["LICENSE"]
        digest = hashlib.sha256(script).hexdigest()
        rows.append(f"| {package} | {version} | {described['license']} | {PURPOSES[package]} | `{digest}` |")
    files["README.md"] = (_README + "\n".join(rows) + "\n").encode()
    return files


_README = """# Libraries that the HTML report embeds

Unchanged minified scripts from the npm registry, their licences beside them. `tools/renew_page_libraries.py` renews
them and writes this list.

| package | version | licence | what for | SHA-256 |
| --- | --- | --- | --- | --- |
"""


def _held(name: str) -> bytes | None:
    place = PLACE / name
    return place.read_bytes() if place.exists() else None


def _packed(package: str, version: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=directory, check=True)
        (archive,) = Path(directory).glob("*.tgz")
        with tarfile.open(archive) as opened:
            return {
                member.name.removeprefix("package/"): file.read()
                for member in opened
                if (file := opened.extractfile(member)) is not None
            }


if __name__ == "__main__":
    sys.exit(main())
