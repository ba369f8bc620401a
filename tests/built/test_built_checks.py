"""What a release is checked with: licences, the bill of materials, changelog fragments, the Pythons."""

from __future__ import annotations

import hashlib
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path

import pytest
from support.lab import REPO

from building.bom import bom, purl_of
from building.changelog import NothingToDoError, gather
from building.fragments import complaints, kinds
from building.licences import libraries, licence_of, unexpected
from building.pythons import found
from rch.contract.extras import DISTRIBUTION

EPOCH = 1_700_000_000


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "rch_xcode-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def test_every_library_of_the_wheel_has_an_expected_licence() -> None:
    strange = {
        library.metadata["Name"]: unexpected(licence_of(library.metadata))
        for library, _ in libraries(distribution(DISTRIBUTION), "all")
    }
    assert len(strange) > 20
    assert not {name: licences for name, licences in strange.items() if licences}


@pytest.mark.parametrize(
    ("expression", "strange"),
    [
        ("MIT", set()),
        ("EPL-2.0 OR GPL-2.0-or-later", set()),
        ("Apache-2.0 AND BSD-3-Clause", set()),
        ("MIT AND GPL-3.0-only", {"GPL-3.0-only"}),
        ("AGPL-3.0-only", {"AGPL-3.0-only"}),
        ("", {"none"}),
    ],
)
def test_of_a_choice_one_licence_will_do_and_of_a_sum_each_must(expression: str, strange: set[str]) -> None:
    assert unexpected(expression) == strange


@pytest.mark.parametrize(
    ("fields", "expression"),
    [
        ([("License-Expression", "MIT")], "MIT"),
        ([("License", "Apache License 2.0")], "Apache-2.0"),
        ([("License", "see the file"), ("Classifier", "License :: OSI Approved :: MIT License")], "MIT"),
        ([("License", "a whole text\n" * 100)], ""),
        ([], ""),
    ],
)
def test_a_licence_is_read_from_the_newest_field(fields: list[tuple[str, str]], expression: str) -> None:
    metadata = Message()
    for name, value in fields:
        metadata[name] = value
    assert licence_of(metadata) == expression


def test_the_bill_names_each_library_once_with_who_needs_it(wheel: Path) -> None:
    purl = purl_of("msgspec", distribution("msgspec").version)
    told = bom(wheel, {purl: "ab" * 32}, EPOCH)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    own = told["metadata"]["component"]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (own["name"], own["hashes"]) == (DISTRIBUTION, [{"alg": "SHA-256", "content": digest}])
    parts = {each["bom-ref"]: each for each in told["components"]}
    assert len(parts) == len(told["components"])
    assert parts[purl]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert all(each["licenses"][0]["expression"] for each in parts.values())
    needs = {each["ref"]: each["dependsOn"] for each in told["dependencies"]}
    assert set(needs) == {*parts, own["bom-ref"]}
    assert {ref for each in needs.values() for ref in each} == set(parts)
    assert told == bom(wheel, {purl: "ab" * 32}, EPOCH)


def test_the_fragments_are_well_formed() -> None:
    assert list(complaints(REPO / "changes")) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("warm-trees.added.md", "Trees are kept.\n", None),
        ("warm trees.added.md", "Trees are kept.\n", "call it"),
        ("warm-trees.new.md", "Trees are kept.\n", "call it"),
        ("12.md", "Trees are kept.\n", "call it"),
        ("warm-trees.added.md", "Trees are kept\n", "full stop"),
        ("warm-trees.added.md", "- Trees are kept.\n", "leave out the list"),
        ("warm-trees.fixed.md", "Trees are kept.\n\nAnd so on.\n", "one or two sentences"),
        ("warm-trees.fixed.md", "", "full stop"),
    ],
)
def test_a_fragment_is_told_what_it_lacks(
    tmp_path: Path, name: str, text: str, complaint: str | None
) -> None:
    (tmp_path / name).write_text(text)
    told = list(complaints(tmp_path))
    assert (told == []) if complaint is None else (complaint in told[0])


def changelog(root: Path) -> Path:
    """A copy of what a changelog is made with."""
    for each in ("pyproject.toml", "CHANGELOG.md", "changes/README.md", "changes/template.md.jinja"):
        (root / each).parent.mkdir(exist_ok=True)
        (root / each).write_bytes((REPO / each).read_bytes())
    return root / "CHANGELOG.md"


def test_a_release_without_changes_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    path = changelog(tmp_path)
    before = path.read_text()
    with pytest.raises(NothingToDoError, match="changes/ is empty"):
        gather(tmp_path, "9.9", "2030-01-01")
    assert path.read_text() == before


def test_a_section_written_by_hand_gets_its_date_once(tmp_path: Path) -> None:
    path = changelog(tmp_path)
    path.write_text("# Changes\n\n## 9.9 (not released)\n- One.\n\n## 9.8 (2029-01-01)\n- Two.\n")
    fragment = tmp_path / "changes/a-change.added.md"
    fragment.write_text("A change.\n")
    with pytest.raises(NothingToDoError, match=r"put a-change\.added\.md under its heading"):
        gather(tmp_path, "9.9", "2030-01-01")
    fragment.unlink()
    gather(tmp_path, "9.9", "2030-01-01")
    assert path.read_text() == ("# Changes\n\n## 9.9 (2030-01-01)\n- One.\n\n## 9.8 (2029-01-01)\n- Two.\n")
    with pytest.raises(NothingToDoError, match="set the next version"):
        gather(tmp_path, "9.9", "2030-01-02")


def test_the_changelog_gathers_each_kind_under_its_heading(tmp_path: Path) -> None:
    changelog(tmp_path)
    for kind in kinds():
        (tmp_path / f"changes/a-change.{kind}.md").write_text(f"What was {kind}\nand more.\n")
    assert gather(tmp_path, "9.9", "2030-01-01") == f"{len(kinds())} changes under 9.9"
    before, _, after = (tmp_path / "CHANGELOG.md").read_text().partition("## 9.9 (2030-01-01)\n\n")
    news, _, rest = after.partition("## 0.1.0")
    assert before.startswith("# Changes")
    assert news == "".join(
        f"### {each.capitalize()}\n- What was {each}\n  and more.\n\n" for each in kinds()
    )
    assert rest == (REPO / "CHANGELOG.md").read_text().partition("## 0.1.0")[2]


def test_the_pythons_are_found_by_what_they_say_of_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer patch is taken; a shim that refuses, a venv and a version beyond ours are not."""
    for version, told in (("3.12.9", True), ("3.12.10", True), ("3.13.0", False), ("3.99.0", True)):
        python = tmp_path / "versions" / version / "bin/python3"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {version} {told}\n")
        python.chmod(0o755)
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    monkeypatch.setattr(
        "building.pythons.shutil.which", lambda name: str(shim) if name == shim.name else None
    )
    assert found() == {"3.12.10": tmp_path / "versions/3.12.10/bin/python3"}
