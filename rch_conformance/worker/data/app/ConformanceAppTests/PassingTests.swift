import XCTest

@testable import ConformanceApp

final class PassingTests: XCTestCase {
    func testLinesReachTheLog() {
        for number in 1...300 {
            FileHandle.standardOutput.write(Data("conformance line \(number) é 漢字 🦊\n".utf8))
        }
        XCTAssertEqual(sum(1, 2), 3)
    }
}
