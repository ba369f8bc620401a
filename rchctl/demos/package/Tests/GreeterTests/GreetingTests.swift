import XCTest

@testable import Greeter

final class GreetingTests: XCTestCase {
    func testGreetsByName() {
        XCTAssertEqual(Greeting(name: "Ada", hour: 9)?.description, "Good morning, Ada!")
    }

    func testWhiteSpaceAroundTheNameDoesNotCount() {
        XCTAssertEqual(Greeting(name: "  Ada Lovelace\n", hour: 20)?.name, "Ada Lovelace")
    }

    func testThereIsNoGreetingForNobody() {
        XCTAssertNil(Greeting(name: "", hour: 9))
        XCTAssertNil(Greeting(name: " \t", hour: 9))
    }

    func testThereIsNoGreetingOutsideTheDay() {
        XCTAssertNil(Greeting(name: "Ada", hour: 24))
    }
}
