#if canImport(Testing)
import Testing
@testable import Conformance

@Suite struct PassingTests {
    @Test func linesReachTheLog() {
        sayLines()
        #expect(sum(1, 2) == 3)
    }
}
#else
import XCTest
@testable import Conformance

final class PassingTests: XCTestCase {
    func testLinesReachTheLog() {
        sayLines()
        XCTAssertEqual(sum(1, 2), 3)
    }
}
#endif
