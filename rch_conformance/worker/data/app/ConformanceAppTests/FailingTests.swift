import XCTest

final class FailingTests: XCTestCase {
    func testFailsAsItShould() {
        XCTFail("it fails as it should")
    }
}
