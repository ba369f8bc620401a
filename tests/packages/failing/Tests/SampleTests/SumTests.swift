import XCTest

@testable import Sample

final class SumTests: XCTestCase {
    func testOfSome() {
        XCTAssertEqual(sum([1, 2, 3]), 6)
    }

    func testOfNone() {
        XCTAssertEqual(sum([]), 0)
    }
}
