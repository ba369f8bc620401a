"""JSON Schemas of all that others read: artifacts and messages of both protocols (spec sections 8, 12).

They are made of the types alone. `artifacts` says which artifacts there are, for whoever writes about
them; `documents` gives every schema with its place below `docs/schemas`; `describe` is `rpc.describe`.
"""

from rch.contract.schemas.artifacts import Artifact, Member, artifacts
from rch.contract.schemas.documents import documents, index
from rch.contract.schemas.local import describe
from rch.contract.schemas.making import DIALECT, Document, schema_of

__all__ = [
    "DIALECT",
    "Artifact",
    "Document",
    "Member",
    "artifacts",
    "describe",
    "documents",
    "index",
    "schema_of",
]
