/// The sum of the numbers; traps where there are none.
public func sum(_ numbers: [Int]) -> Int {
    guard !numbers.isEmpty else { fatalError("nothing to sum") }
    return numbers.reduce(0, +)
}
