#if canImport(Testing)
import Testing

@Suite struct SlowTests {
    @Test func ticks() async throws {
        for number in 1...2400 {
            say(tick(number))
            try await Task.sleep(nanoseconds: 250_000_000)
        }
    }
}
#else
import Foundation
import XCTest

final class SlowTests: XCTestCase {
    func testTicks() {
        for number in 1...2400 {
            say(tick(number))
            Thread.sleep(forTimeInterval: 0.25)
        }
    }
}
#endif
