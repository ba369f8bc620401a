"""A Swift package of realistic size: three targets that build on each other, tests of both kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TARGETS = ("Core", "Store", "Feature")
_MANIFEST = """// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "Bench",
    targets: [
        .target(name: "Core"),
        .target(name: "Store", dependencies: ["Core"]),
        .target(name: "Feature", dependencies: ["Core", "Store"]),
        .testTarget(name: "CoreTests", dependencies: ["Core"]),
        .testTarget(name: "StoreTests", dependencies: ["Store"]),
        .testTarget(name: "FeatureTests", dependencies: ["Feature"]),
    ]
)
"""
_SOURCE = """{imports}
/// A ledger of numbered entries.
public struct {name}: Sendable, Equatable {{
    public struct Entry: Sendable, Equatable, Hashable {{
        public let id: Int
        public var title: String
        public var amount: Double
    }}

    public private(set) var entries: [Entry] = []

    public init() {{}}

    public var total: Double {{
        entries.reduce(0) {{ $0 + $1.amount }}
    }}

    public mutating func add(_ title: String, amount: Double) -> Entry {{
        let entry = Entry(id: entries.count + 1, title: title, amount: amount)
        entries.append(entry)
        return entry
    }}

    public func grouped() -> [Character: [Entry]] {{
        Dictionary(grouping: entries) {{ $0.title.first ?? "?" }}
    }}

    public func largest(_ count: Int) -> [Entry] {{
        Array(entries.sorted {{ ($0.amount, $0.id) > ($1.amount, $1.id) }}.prefix(count))
    }}

    public func salt() -> Int {{
        let seed = {number}
        return seed &* 31 &+ entries.count
    }}
}}
"""
_TESTING = """import Testing
@testable import {target}

@Suite struct {name}Tests {{
    @Test func totalsAreSums() {{
        var ledger = {name}()
        for index in 1...5 {{ _ = ledger.add("item\\(index)", amount: Double(index)) }}
        #expect(ledger.total == 15)
        #expect(ledger.entries.map(\\.id) == [1, 2, 3, 4, 5])
    }}

    @Test(arguments: [0, 1, 3]) func largestAreFew(count: Int) {{
        var ledger = {name}()
        for index in 1...5 {{ _ = ledger.add("item\\(index)", amount: Double(index)) }}
        #expect(ledger.largest(count).count == count)
    }}

    @Test func groupsByFirstLetter() {{
        var ledger = {name}()
        _ = ledger.add("apple", amount: 1)
        _ = ledger.add("avocado", amount: 2)
        #expect(ledger.grouped()["a"]?.count == 2)
    }}
}}
"""
_XCTEST = """import XCTest
@testable import {target}

final class {name}Tests: XCTestCase {{
    func testSaltFollowsTheEntries() {{
        var ledger = {name}()
        let before = ledger.salt()
        _ = ledger.add("one", amount: 1)
        XCTAssertEqual(ledger.salt(), before &+ 1)
    }}

    func testEmptyHasNoTotal() {{
        XCTAssertEqual({name}().total, 0)
    }}
}}
"""


@dataclass(frozen=True)
class Package:
    """A package at `root` with `sources` and `tests` files for each of its three targets."""

    root: Path
    sources: int = 12
    tests: int = 8
    xctests: int = 1

    def write(self) -> None:
        """Make it, with a config whose `[cache]` keeps a workspace warm where that is offered."""
        self._put("Package.swift", _MANIFEST)
        self._put(".gitignore", ".build\n")
        for place, target in enumerate(_TARGETS):
            imports = "".join(f"import {other}\n" for other in _TARGETS[:place])
            for index in range(self.sources):
                name = f"{target}Ledger{index}"
                text = _SOURCE.format(imports=imports, name=name, number=index)
                self._put(f"Sources/{target}/{name}.swift", text)
            for index in range(self.tests):
                name = f"{target}Ledger{index % self.sources}"
                kind = _XCTEST if index < self.xctests else _TESTING
                text = kind.format(target=target, name=name)
                self._put(f"Tests/{target}Tests/{name}Tests.swift", text)

    def configure(self, workspace: str) -> None:
        """Write `.rch/xcode.toml`."""
        self._put(
            ".rch/xcode.toml",
            'schema_version = 1\nbackend = "swiftpm"\n'
            f'[cache]\nnamespace = "bench"\nworkspace = "{workspace}"\n',
        )

    def edit(self, number: int) -> None:
        """Change the body of one function of the target that the others build on."""
        name = f"{_TARGETS[0]}Ledger{1 % self.sources}"
        seed = 1000 + number
        text = _SOURCE.format(imports="", name=name, number=seed)
        self._put(f"Sources/{_TARGETS[0]}/{name}.swift", text)

    def _put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
