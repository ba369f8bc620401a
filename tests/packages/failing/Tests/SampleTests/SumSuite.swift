import Testing

@testable import Sample

@Suite struct SumSuite {
    @Test func some() {
        #expect(sum([1, 2, 3]) == 6)
    }

    @Test func none() {
        #expect(sum([]) == 0)
    }
}
