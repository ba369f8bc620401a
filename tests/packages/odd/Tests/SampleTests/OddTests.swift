import Foundation
import XCTest

@testable import Sample

/// What the tests do beside passing; set by `ODD`.
func odd(_ way: String) -> Bool { ProcessInfo.processInfo.environment["ODD"] == way }

final class OddTests: XCTestCase {
    func testPasses() {
        print("/elsewhere/A.swift:1:2: error: planted by a passing test")
        print("Fatal error: planted by a passing test")
        XCTAssertEqual(sum([1, 2]), 3)
    }

    func testIsSkipped() throws {
        throw XCTSkip("not today")
    }

    func testMayEndTheProcess() {
        if odd("xctest-exit") { exit(0) }
    }
}
