/// What the tests add up.
public func sum(_ first: Int, _ second: Int) -> Int {
    first + second
}
