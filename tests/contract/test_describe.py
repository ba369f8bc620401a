"""`rpc.describe`: the method table with a JSON Schema for each message (spec section 12)."""

from __future__ import annotations

import json

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from rch.contract import local_api as api
from rch.contract.records import Narrowing
from rch.contract.schemas import describe

pytestmark = pytest.mark.spec("12")


def test_every_method_is_described_by_schemas_that_hold() -> None:
    told = describe()
    assert told.keys() == api.METHODS.keys()
    for method in told.values():
        assert method["summary"]
        for name in ("params", "result"):
            Draft202012Validator.check_schema(method[name])
    assert len(json.dumps(told)) < api.MAX_MESSAGE


def test_a_schema_takes_what_the_daemon_takes_and_refuses_what_it_refuses() -> None:
    submit = Draft202012Validator(describe()["runs.submit"]["params"])
    good = api.SubmitParams(start="/src", actions=("build",), narrowing=Narrowing())
    assert submit.is_valid(json.loads(msgspec.json.encode(good)))
    for bad in ({}, {"start": 1}, {"start": "/src", "begin": True}, {"start": "/src", "actions": "build"}):
        assert not submit.is_valid(bad)
