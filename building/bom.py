"""`make sbom`: what the wheel installs with all its extras, as a CycloneDX document beside it.

    python -m building.bom [FOLDER]      default: dist/, which holds one wheel

Versions, licences and who needs whom are those of this environment, which constraints.txt pins. The digests
are those of the archives that pip would fetch here; without an index they are left out, and told.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from building.content import ROOT
from building.dist import committed_at
from building.licences import libraries, licence_of, normal
from rch.contract.decoding import decode_json
from rch.contract.extras import DISTRIBUTION

_SPEC = "1.6"
_SPACE = uuid.UUID("6f1c3a52-6a0e-5d5c-9a0b-0d9b7f6f1b11")


def bom(wheel: Path, digests: Mapping[str, str], epoch: int) -> dict[str, Any]:
    """The document; `digests` is sha256 in hex by purl. Equal wheels and libraries give equal documents."""
    found = list(libraries(distribution(DISTRIBUTION), "all"))
    top, parts = "", list[dict[str, Any]]()
    refs = {normal(each.metadata["Name"]): _purl(each) for each, _ in found}
    for library, _ in found:
        part = _component(library, digests)
        if part["name"] == DISTRIBUTION:
            top = part["bom-ref"]
            own = {**part, "type": "application", "hashes": [_sha256(_digest(wheel))]}
        else:
            parts.append(part)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, _digest(wheel))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "rch building.bom"}]},
            "component": own,
        },
        "components": parts,
        "dependencies": [
            {"ref": _purl(library), "dependsOn": sorted(refs[name] for name in needs)}
            for library, needs in sorted(found, key=lambda each: _purl(each[0]) != top)
        ],
    }


def _component(library: Distribution, digests: Mapping[str, str]) -> dict[str, Any]:
    purl, expression = _purl(library), licence_of(library.metadata)
    part: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": library.metadata["Name"],
        "version": library.version,
        "purl": purl,
    }
    if "Summary" in library.metadata:
        part["description"] = library.metadata["Summary"]
    if expression:
        part["licenses"] = [{"expression": expression}]
    if purl in digests:
        part["hashes"] = [_sha256(digests[purl])]
    return part


def _purl(library: Distribution) -> str:
    return purl_of(library.metadata["Name"], library.version)


def purl_of(name: str, version: str) -> str:
    """A package's name for all indexes."""
    return f"pkg:pypi/{normal(name)}@{version}"


def _sha256(content: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": content}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetched_digests(wheel: Path) -> dict[str, str]:
    """sha256 by purl of what pip would install; none where it cannot tell."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    flags = ["--dry-run", "--ignore-installed", "--report", "-", "-c", str(ROOT / "constraints.txt")]
    argv = [*pip, *flags, f"{wheel}[all]"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    report = decode_json(done.stdout)
    return {
        purl_of(each["metadata"]["name"], each["metadata"]["version"]): digest
        for each in report["install"]
        if (digest := each["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"))
    }


def main(argv: list[str]) -> int:
    """Write it, and say what it holds."""
    into = Path(argv[0]) if argv else ROOT / "dist"
    wheels = sorted(into.glob(f"{DISTRIBUTION.replace('-', '_')}-*.whl"))
    if len(wheels) != 1:
        sys.stderr.write(f"sbom: {into} holds {len(wheels)} wheels of {DISTRIBUTION}: make dist first\n")
        return 1
    digests = fetched_digests(wheels[0])
    if not digests:
        sys.stderr.write("sbom: no index could be asked: the libraries are without digests\n")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or committed_at())
    document = bom(wheels[0], digests, epoch)
    out = into / f"{wheels[0].name.removesuffix('-py3-none-any.whl')}.cdx.json"
    out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(document['components'])} libraries in {out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
