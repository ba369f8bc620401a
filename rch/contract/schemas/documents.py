"""Every schema file, and the index of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rch.contract.schemas.artifacts import artifacts
from rch.contract.schemas.local import local_documents
from rch.contract.schemas.making import Document
from rch.contract.schemas.worker import worker_documents


def documents() -> Iterator[Document]:
    """Artifacts, then the worker protocol, then the local socket."""
    yield from (each.document for each in artifacts())
    yield from worker_documents()
    yield from local_documents()


def index() -> dict[str, Any]:
    """`index.json`: the `$id` of each schema -> its file; for artifacts also by `schema_id`."""
    return {
        "schemas": {each.id: each.path for each in documents()},
        "artifacts": {
            each.schema_id: {"file": each.document.path, "scope": each.scope, "place": each.place}
            for each in artifacts()
        },
    }
