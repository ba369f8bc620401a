/// The sum of the numbers.
public func sum(_ numbers: [Int]) -> Int {
    numbers.reduce(0, +)
}
