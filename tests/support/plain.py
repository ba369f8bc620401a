"""The environment of programs as users have them: without the libraries that only developers install."""

from __future__ import annotations

from pathlib import Path

PLAIN = {"PYTHONPATH": str(Path(__file__).with_name("without"))}
