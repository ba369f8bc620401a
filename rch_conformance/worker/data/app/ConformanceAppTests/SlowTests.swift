import XCTest

final class SlowTests: XCTestCase {
    func testTicks() {
        // standin: seconds 600
        for number in 1...2400 {
            FileHandle.standardOutput.write(Data("conformance tick \(number)\n".utf8))
            Thread.sleep(forTimeInterval: 0.25)
        }
    }
}
