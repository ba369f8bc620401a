"""Writes docs/reference/: called by docs/conf.py before Sphinx looks for its sources, and by the tests."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath

from reference.artifacts import artifacts_page
from reference.commands import (
    rch_conformance_page,
    rch_mock_worker_page,
    rch_worker_page,
    rchctl_page,
    rchd_page,
)
from reference.config_keys import config_keys_page
from reference.exit_codes import exit_codes_page
from reference.gate import gate_page
from reference.machines import machines_page, pictures
from reference.protocols import local_api_page, worker_api_page

ELSEWHERE = {
    "README.md": "readme",
    "CHANGELOG.md": "changes",
    "CONTRIBUTING.md": "contributing",
    "changes/README.md": "fragments",
    "benchmarks/README.md": "benchmarks",
}
"""Pages that lie outside of docs/ and are shown on the site as docs/reference/<name>.md."""


def from_reference(text: str, folder: PurePosixPath) -> str:
    """The links of a page that lies in `folder` of the repository, as they are from docs/reference/."""

    def there(found: re.Match[str]) -> str:
        path, mark, rest = found[1].partition("#")
        place = posixpath.normpath(folder / path)
        page = ELSEWHERE.get(place)
        target = f"{page}.md" if page else posixpath.relpath(place, "docs/reference")
        return f"]({target}{mark}{rest})"

    return re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", there, text)


def for_the_site(text: str, folder: Path) -> str:
    """A page of `folder`: links to `ELSEWHERE` lead to where the site has them, and none to a folder."""
    for place, name in ELSEWHERE.items():
        text = text.replace(f"](../{place}", f"](reference/{name}.md")
    return re.sub(
        r"\[([^\]]+)\]\((?!https?:|#)([^)\s#]+)\)",
        lambda found: found[1] if (folder / found[2]).is_dir() else found[0],
        text,
    )


def arranged(index: str, docs: Path) -> str:
    """The index with every page in it once: pages that are not there are left out, new ones put last."""
    there = {path.relative_to(docs).with_suffix("").as_posix() for path in docs.glob("*.md")}
    there |= {path.relative_to(docs).with_suffix("").as_posix() for path in docs.glob("[a-z]*/*.md")}
    entry = re.compile(r"(?:[^<]+ <)?([A-Za-z0-9/-]+)>?")
    listed = {found[1] for line in index.splitlines() if (found := entry.fullmatch(line))}
    rest = sorted(page for page in there if "/" not in page and page not in {*listed, "index"})
    kept = [
        line for line in index.splitlines() if (found := entry.fullmatch(line)) is None or found[1] in there
    ]
    return "\n".join(kept).replace("<the rest>", "\n".join(rest)) + "\n"


def pages(docs: Path) -> dict[str, str]:
    """Every generated page and picture by its path below docs/reference/."""
    made = {
        "rchctl.md": rchctl_page(docs),
        "rchd.md": rchd_page(),
        "rch-worker.md": rch_worker_page(),
        "rch-conformance.md": rch_conformance_page(),
        "rch-mock-worker.md": rch_mock_worker_page(),
        "config-keys.md": config_keys_page(docs),
        "artifacts.md": artifacts_page(docs),
        "exit-codes.md": exit_codes_page(),
        "gate.md": gate_page(),
        "local-api.md": local_api_page(docs),
        "worker-api.md": worker_api_page(docs),
        "state-machines.md": machines_page(),
    }
    for place, name in ELSEWHERE.items():
        text = (docs.parent / place).read_text(encoding="utf-8")
        made[f"{name}.md"] = from_reference(text, PurePosixPath(place).parent)
    return made | {f"pictures/{name}.svg": svg for name, svg in pictures().items()}


def write_pages(docs: Path) -> list[Path]:
    """Write what is not there already as it should be; the paths of all of them."""
    written = []
    for name, text in pages(docs).items():
        path = docs / "reference" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
