import Testing

@testable import Greeter

@Suite("Time of day")
struct TimeOfDayTests {
    @Test("Every hour has its part", arguments: [(0, TimeOfDay.night), (6, .morning), (12, .afternoon), (23, .evening)])
    func part(hour: Int, expected: TimeOfDay) {
        #expect(TimeOfDay(hour: hour) == expected)
    }

    @Test func hoursOutsideTheDayHaveNone() {
        #expect(TimeOfDay(hour: -1) == nil)
        #expect(TimeOfDay(hour: 24) == nil)
    }

    @Test func everyPartHasItsOwnSalute() {
        #expect(Set(TimeOfDay.allCases.map(\.salute)).count == TimeOfDay.allCases.count)
    }
}
