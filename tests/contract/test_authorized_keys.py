from __future__ import annotations

import pytest

from rch.contract.authorized_keys import COMMAND, authorized_line
from rch.contract.errors import Failure

KEY = "ssh-ed25519 AAAAC3Nz"


def line(
    key: str = KEY, command: str = COMMAND, sources: tuple[str, ...] = (), comment: str = "rch@here"
) -> str:
    return authorized_line(key, command=command, sources=sources, comment=comment)


@pytest.mark.spec("3.1")
def test_the_line_lets_the_key_do_one_thing() -> None:
    assert line() == f'restrict,command="{COMMAND}" {KEY} rch@here'
    assert line(sources=("192.0.2.7", "2001:db8::/32")) == (
        f'restrict,command="{COMMAND}",from="192.0.2.7,2001:db8::/32" {KEY} rch@here'
    )


@pytest.mark.spec("3.1")
def test_quotes_in_the_command_do_not_end_it() -> None:
    assert 'command="env A=\\"b\\" w"' in line(command='env A="b" w')
    assert 'command="a\\\\b"' in line(command="a\\b")


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": 'ssh-ed25519 AAAA",command="sh'}, "no public key"),
        ({"key": "AAAA"}, "no public key"),
        ({"command": "a\nb"}, "not one line"),
        ({"command": ""}, "not one line"),
        ({"comment": "a\nssh-rsa AAAA"}, "not one line"),
        ({"sources": ("192.0.2.7/24",)}, "host bits"),
        ({"sources": ('192.0.2.7",command="sh',)}, "no address"),
        ({"sources": ("*",)}, "no address"),
    ],
)
def test_what_would_break_the_line_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(Failure, match=said) as caught:
        line(**change)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
