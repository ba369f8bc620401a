"""When build products begin anew: they may still speak of what is not there any more."""

from __future__ import annotations

import pytest

from worker_agent.products import Content, outlived

BEFORE: dict[str, Content] = {
    "Package.swift": ("p", None),
    "Sources/Lib/a.swift": ("a", None),
    "Sources/Lib/b.swift": ("b", None),
    "Sources/Lib/Proc/q.txt": ("q", None),
    "Sources/Lib/V.swift": (None, "../../one/V.swift"),
    "App.xcodeproj/project.pbxproj": ("x", None),
}


def after(**changes: Content | None) -> dict[str, Content]:
    made = {
        **BEFORE,
        **{path.replace("__", "/").replace("_dot_", "."): one for path, one in changes.items()},
    }
    return {path: one for path, one in made.items() if one is not None}


@pytest.mark.spec("11")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"Sources__Lib__a_dot_swift": ("a2", None)}, None),
        ({"Sources__Lib__b_dot_swift": None}, None),
        ({"Sources__Lib__new_dot_swift": ("n", None)}, None),
        ({"Sources__Lib__Proc__q_dot_txt": ("q2", None)}, None),
        ({"Sources__Lib__Proc__r_dot_txt": ("r", None)}, None),
        ({"Sources__Lib__Proc__q_dot_txt": None}, "Sources/Lib/Proc/q.txt is gone"),
        ({"Package_dot_swift": ("p2", None)}, "Package.swift is another one"),
        ({"Package_dot_resolved": ("r", None)}, "Package.resolved is another one"),
        ({"Package@swift-6_dot_swift": ("s", None)}, "Package@swift-6.swift is another one"),
        (
            {"App_dot_xcodeproj__project_dot_pbxproj": ("y", None)},
            "App.xcodeproj/project.pbxproj is another one",
        ),
        (
            {"Sources__Lib__V_dot_swift": (None, "../../two/V.swift")},
            "the link Sources/Lib/V.swift leads elsewhere",
        ),
        ({"Sources__Lib__V_dot_swift": ("v", None)}, "the link Sources/Lib/V.swift leads elsewhere"),
        ({"Sources__Lib__a_dot_swift": (None, "b.swift")}, "the link Sources/Lib/a.swift leads elsewhere"),
    ],
)
def test_products_serve_on_only_where_nothing_can_have_been_left_behind(
    changes: dict[str, Content | None], why: str | None
) -> None:
    assert outlived(BEFORE, after(**changes)) == why
