import Testing

@testable import Lantern

@Suite("A lantern")
struct LanternTests {
    private func lantern(_ millimetres: Int) throws -> Lantern {
        Lantern(wick: try #require(Wick(millimetres: millimetres)))
    }

    @Test("is dark until it is kindled")
    func dark() throws {
        #expect(try lantern(10).state == .dark)
    }

    @Test func kindling() throws {
        var lantern = try lantern(10)
        lantern.kindle()
        #expect(lantern.state == .lit)
    }

    @Test("burns for its wick and no longer", arguments: [4, 8, 12])
    func burning(millimetres: Int) throws {
        var lantern = try lantern(millimetres)
        lantern.kindle()
        lantern.burn(hours: 3)
        #expect(lantern.state == .spent)
    }
}

@Test func aDarkLanternDoesNotBurn() throws {
    var lantern = Lantern(wick: try #require(Wick(millimetres: 10)))
    lantern.burn(hours: 2)
    #expect(lantern.wick.millimetres == 10)
}
