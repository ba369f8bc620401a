"""Secrets never reach a record (spec section 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rch.config.redact import REDACTED, redact


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "key",
    ["password", "API_KEY", "github_token", "secrets", "private-key", "my.credentials", "passphrase"],
)
def test_secret_by_key_name(key: str) -> None:
    clean, taken = redact({"a": {key: "x"}})
    assert clean == {"a": {key: REDACTED}}
    assert taken == (f"a.{key}",)


@pytest.mark.spec("6")
@pytest.mark.parametrize("key", ["tokenizer", "namespace", "author", "key", "monkey", "ssh_key_path"])
def test_ordinary_keys_stay(key: str) -> None:
    assert redact({key: "x"}) == ({key: "x"}, ())


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
        "ghp_" + "A1" * 18,
        "github_pat_" + "A1" * 18,
        "AKIA" + "A1" * 8,
        "xoxb-" + "1234567890-abc",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK",
        "Authorization: Bearer abcdefghijklmnop",
        "https://user:pass@host/x",
    ],
)
def test_secret_by_value(value: str) -> None:
    assert redact({"tags": ["ok", value]}) == ({"tags": ["ok", REDACTED]}, ("tags[1]",))


@pytest.mark.parametrize(
    "value", ["https://host/x", "ssh://git@host:22/x", "platform=macOS", "task-runner", ""]
)
def test_ordinary_values_stay(value: str) -> None:
    assert redact({"a": value}) == ({"a": value}, ())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(tree=st.dictionaries(st.text(max_size=5), _JSON, max_size=4), place=st.text(max_size=5))
def test_a_secret_is_gone_wherever_it_lies(tree: dict[str, object], place: str) -> None:
    secret = "ghp_" + "s" * 36
    clean, taken = redact({"deep": [{place: {"more": tree, "x": f"a {secret}"}}]})
    assert secret not in repr(clean)
    assert taken
