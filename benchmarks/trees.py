"""Trees like source repositories, the same for the same seed: depth, sizes, text and assets.

Sizes are log-normal with a few large assets. Text is words of a small language in lines, which zstd
at its usual level makes four times smaller, as it does source code; assets do not get smaller.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MEGA = 1_000_000
_CORPUS_BYTES = 12 * MEGA
_OLD = 1_700_000_000  # every file was written long ago: nobody waits for a clock's tick
_MANIFEST = '// swift-tools-version: 5.9\nimport PackageDescription\nlet package = Package(name: "Tree")\n'
_SYLLABLES = ("con", "ten", "view", "model", "load", "er", "store", "sync", "item", "list", "path", "node")
_STARTS = (
    "        let {} = {}.{}({})",
    "    func {}({}: {}) -> {} {{",
    "        guard let {} = {} else {{ return {} }}",
    "        {}.{}({}: {})",
    "    /// {} {} {} {}",
    "        if {} == {} && {} {{ {} }}",
    "    private var {}: {} = {}.{}",
    "        XCTAssertEqual({}.{}, {}, {})",
    "    }}",
    "",
)


@dataclass(frozen=True)
class Shape:
    """How large a tree is: files, bytes, the share of files that are assets, and the large ones."""

    name: str
    files: int
    bytes: int
    assets: float = 0.04
    large: int = 10


SMALL = Shape("1,500 files", 1_500, 20 * MEGA, large=4)
LARGE = Shape("13,000 files", 13_000, 120 * MEGA)
TWELVE = Shape("12,000 files", 12_000, 110 * MEGA)
QUICK = Shape("120 files", 120, 1 * MEGA, large=1)


class Tree:
    """A tree on disk; `paths` are those of its text files, in their order."""

    def __init__(self, root: Path, shape: Shape, seed: int = 1) -> None:
        self.root = root
        self.shape = shape
        self.paths: list[str] = []
        self._rng = random.Random(seed)  # noqa: S311  (the same tree each time is the point)
        self._write()

    def edit(self, count: int, number: int) -> list[str]:
        """Change `count` text files, each in one line and in another way for each `number`."""
        chosen = random.Random(number * 7919 + count).sample(self.paths, count)  # noqa: S311  (as above)
        for path in chosen:
            file = self.root / path
            lines = file.read_text().splitlines(keepends=True)
            lines[len(lines) // 2] = f"        let edited{number} = {number * 31 + count}\n"
            file.write_text("".join(lines))
        return chosen

    def _write(self) -> None:
        shape, rng = self.shape, self._rng
        assets = max(shape.large, int(shape.files * shape.assets))
        sizes = self._sizes(shape.files - 1 - assets, assets)
        names = self._names(shape.files - 1 - assets, assets)
        made: set[str] = set()
        for name, size in zip(names, sizes, strict=True):
            folder = name.rpartition("/")[0]
            if folder not in made:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
                made.add(folder)
            text = name.endswith(".swift")
            self._put(name, self._text(size) if text else rng.randbytes(size))
            if text:
                self.paths.append(name)
        self._put("Package.swift", _MANIFEST.encode())

    def _put(self, name: str, data: bytes) -> None:
        path = str(self.root / name)
        with open(path, "wb") as file:  # noqa: PTH123  (thousands of them)
            file.write(data)
        os.utime(path, (_OLD, _OLD))

    def _sizes(self, texts: int, assets: int) -> list[int]:
        """Text takes seven eighths of the bytes, less what the large assets take."""
        rng, shape = self._rng, self.shape
        text = [rng.lognormvariate(0, 1.1) for _ in range(texts)]
        asset = [rng.lognormvariate(0, 1.0) for _ in range(assets)]
        for index in range(shape.large):
            asset[index] += sum(asset) / assets * 20
        for_text, for_assets = shape.bytes * 7 // 8, shape.bytes // 8
        scaled = [max(64, int(one / sum(text) * for_text)) for one in text]
        return scaled + [max(64, int(one / sum(asset) * for_assets)) for one in asset]

    def _names(self, texts: int, assets: int) -> list[str]:
        rng = self._rng
        modules = [f"{_word(rng)}{index}" for index in range(max(3, texts // 150))]
        folders = []
        for module in modules:
            top = "Tests" if rng.random() < 0.3 else "Sources"
            for _ in range(rng.randint(4, 14)):
                parts = [_word(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
                folders.append("/".join([top, module, *parts]))
        named = [f"{rng.choice(folders)}/{_word(rng)}{index}.swift" for index in range(texts)]
        return named + [f"{rng.choice(folders)}/Resources/asset{index}.png" for index in range(assets)]

    def _text(self, size: int) -> bytes:
        whole = min(size, _CORPUS_BYTES // 2)
        start = self._rng.randrange(len(self._corpus) - whole)
        start = self._corpus.find(b"\n", start) + 1
        return (self._corpus[start : start + whole] * (size // whole + 1))[: size - 1] + b"\n"

    @cached_property
    def _corpus(self) -> bytes:
        """Lines enough for every file to begin somewhere else."""
        rng = self._rng
        wanted = min(_CORPUS_BYTES, max(self.shape.bytes, MEGA))
        words = [_word(rng) for _ in range(4_000)]
        weights = [1 / (rank + 3) for rank in range(len(words))]  # as in any language
        lines: list[str] = []
        held = 0
        while held < wanted:
            picked = iter(rng.choices(words, weights, k=4_400))
            for start in rng.choices(_STARTS, k=1_000):
                line = start.format(*(next(picked) for _ in range(start.count("{}"))))
                lines.append(line)
                held += len(line) + 1
        return "\n".join(lines).encode()


def _word(rng: random.Random) -> str:
    parts = rng.choices(_SYLLABLES, k=rng.randint(1, 3))
    return parts[0].capitalize() + "".join(part.capitalize() for part in parts[1:]) + rng.choice("ABCDEFGH")
