import XCTest

@testable import Lantern

final class WickTests: XCTestCase {
    func testThereIsNoWickOfNoLength() {
        XCTAssertNil(Wick(millimetres: 0))
    }

    func testItBurnsDown() throws {
        var wick = try XCTUnwrap(Wick(millimetres: 20))
        wick.burn(hours: 3)
        XCTAssertEqual(wick.millimetres, 8)
    }

    func testItNeverGoesBelowNothing() throws {
        var wick = try XCTUnwrap(Wick(millimetres: 3))
        wick.burn(hours: 5)
        XCTAssertTrue(wick.isSpent)
    }
}
