/// Does not compile: a text is no number.
public func sum(_ numbers: [Int]) -> Int {
    let start: Int = "zero"
    return numbers.reduce(start, +)
}
