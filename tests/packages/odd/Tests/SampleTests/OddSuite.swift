import Foundation
import Testing

@testable import Sample

@Suite struct OddSuite {
    @Test func passes() {
        #expect(sum([1, 2]) == 3)
    }

    @Test(.disabled("not today")) func isSkipped() {}

    @Test func isKnownToFail() {
        withKnownIssue { #expect(sum([]) == 1) }
    }

    @Test func mayEndTheProcess() {
        if odd("suite-exit") { exit(0) }
        if odd("suite-crash") { fatalError("in a suite") }
    }
}
