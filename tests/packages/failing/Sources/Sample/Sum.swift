/// The sum of the numbers, and wrong by one where there are none.
public func sum(_ numbers: [Int]) -> Int {
    numbers.isEmpty ? 1 : numbers.reduce(0, +)
}
