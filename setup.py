"""What pyproject.toml cannot say: files that are made when a package is, and packages of equal bytes."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))  # a builder starts elsewhere

from building.commands import COMMANDS
from building.content import STATIC

setup(cmdclass=COMMANDS, data_files=STATIC)
