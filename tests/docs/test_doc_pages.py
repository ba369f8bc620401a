"""The pages say nothing that is not so: doctests, generated tables, variables."""

from __future__ import annotations

import doctest
import re
from pathlib import Path, PurePosixPath

import pytest
from reference import artifacts, machines
from reference.commands import exit_codes_told
from reference.exit_codes import MEANING
from reference.pages import arranged, for_the_site, from_reference, pages
from reference.protocols import FEATURES, RESULTS
from support.pages import DOCS, REPO, blocks, hand_written

from rch.contract.errors import registry
from rch.contract.local_api import METHODS
from rch.contract.worker_rpc import OPERATIONS, Feature
from rchctl.verbs import VERBS
from rchd.core.run import MOVES

DOCTESTS = [page for page in hand_written() if ">>> " in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", DOCTESTS, ids=lambda page: page.stem)
def test_the_doctests_of_a_page_hold(page: Path) -> None:
    text = "\n".join(block.text for block in blocks(page, "python", "pycon") if ">>> " in block.text)
    test = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    assert test.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages(DOCS)


@pytest.mark.spec("8")
def test_every_artifact_has_its_place_its_writer_and_its_members(made: dict[str, str]) -> None:
    assert artifacts.undocumented() == set()
    for kind in artifacts.kinds():
        for field in kind.__struct_fields__:
            assert f"`{field}`" in made["artifacts.md"]


def test_every_verb_is_there_with_its_flags_and_exit_codes(made: dict[str, str]) -> None:
    for verb in VERBS:
        assert f"\n## rchctl {verb}\n" in made["rchctl.md"]
    assert set(exit_codes_told(DOCS)) == set(VERBS)


@pytest.mark.spec("8")
def test_every_exit_code_is_there_with_its_meaning(made: dict[str, str]) -> None:
    assert {0, *(entry.exit_code for _, _, entry in registry())} == set(MEANING)
    for kind, subkind, entry in registry():
        row = f"| `{kind}` | {f'`{subkind}`' if subkind else 'none'} |"
        assert any(
            line.startswith(row) and entry.remedy in line for line in made["exit-codes.md"].splitlines()
        )


@pytest.mark.spec("12")
def test_both_protocols_are_there_whole(made: dict[str, str]) -> None:
    assert set(RESULTS) == set(OPERATIONS)
    assert set(FEATURES) == set(Feature)
    assert all(f"\n## {method}\n" in made["local-api.md"] for method in METHODS)
    assert all(f"\n## {op}\n" in made["worker-api.md"] for op in OPERATIONS)


@pytest.mark.spec("4")
def test_the_pictures_show_every_phase_and_every_move_of_the_table(made: dict[str, str]) -> None:
    assert set(machines.PHASE_PLACES) == set(machines.phases())
    arrows = machines.phase_arrows()
    assert {arrow.start for arrow in arrows} >= {phase.__name__ for phase, _ in MOVES}
    assert {("Submitting", "Following"), ("Following", "Fetching")} <= {arrow[:2] for arrow in arrows}
    assert all(name in made["pictures/run-phases.svg"] for name in machines.phases())


def test_every_variable_of_the_programs_stands_in_places() -> None:
    told = (DOCS / "places.md").read_text(encoding="utf-8")
    told += (DOCS / "configuration.md").read_text(encoding="utf-8")  # of a hook, and of nothing else
    read = set()
    for room in ("rch", "rchd", "rchctl", "worker_agent"):
        for path in (REPO / room).rglob("*.py"):
            read |= set(re.findall(r"""["'](RCH_[A-Z_]+)["']""", path.read_text(encoding="utf-8")))
    assert {name for name in read if f"`{name}`" not in told} == set()
    assert "RCH_HOME" in read


def test_a_page_that_is_new_is_in_the_index_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    for name in ("index.md", "start.md", "new-page.md"):
        (tmp_path / name).touch()
    index = "# It\n\n```{toctree}\nThe start <start>\ngone-page\n```\n```{toctree}\n<the rest>\n```\n"
    assert (
        arranged(index, tmp_path)
        == "# It\n\n```{toctree}\nThe start <start>\n```\n```{toctree}\nnew-page\n```\n"
    )


def test_links_lead_to_where_the_site_has_the_page() -> None:
    there = from_reference("[a](docs/cli.md#x) [b](CHANGELOG.md) [c](https://x.y)", PurePosixPath())
    assert there == "[a](../cli.md#x) [b](changes.md) [c](https://x.y)"
    assert for_the_site("[a](../README.md) [b](decisions)", DOCS) == "[a](reference/readme.md) b"
