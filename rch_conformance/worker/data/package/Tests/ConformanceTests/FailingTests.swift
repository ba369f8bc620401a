#if canImport(Testing)
import Testing
@testable import Conformance

@Suite struct FailingTests {
    @Test func failsAsItShould() {
        #expect(sum(1, 2) == 4)
    }
}
#else
import XCTest
@testable import Conformance

final class FailingTests: XCTestCase {
    func testFailsAsItShould() {
        XCTAssertEqual(sum(1, 2), 4)
    }
}
#endif
