/// What is said to one person at one hour of the day.
public struct Greeting: Equatable, Sendable, CustomStringConvertible {
    /// Whom it is for; never empty.
    public let name: String
    /// The part of the day that chooses the words.
    public let time: TimeOfDay

    /// A greeting, or nil where there is no one to greet.
    ///
    /// White space around the name does not count.
    public init?(name: String, hour: Int) {
        guard let time = TimeOfDay(hour: hour) else { return nil }
        let trimmed = name.trimmed()
        guard !trimmed.isEmpty else { return nil }
        self.name = trimmed
        self.time = time
    }

    public var description: String { "\(time.salute), \(name)!" }
}

extension String {
    /// The text without white space at either end.
    func trimmed() -> String {
        let start = drop(while: \.isWhitespace)
        guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(start[...last])
    }
}
