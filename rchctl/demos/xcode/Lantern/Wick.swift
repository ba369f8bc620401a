/// What burns in a lantern: so many millimetres, of which each hour takes some.
public struct Wick: Equatable, Sendable {
    public private(set) var millimetres: Int

    /// None for a wick of no length.
    public init?(millimetres: Int) {
        guard millimetres > 0 else { return nil }
        self.millimetres = millimetres
    }

    public var isSpent: Bool { millimetres == 0 }

    /// Burn for so many hours, down to nothing.
    public mutating func burn(hours: Int, rate: Int = 4) {
        millimetres = max(0, millimetres - hours * rate)
    }
}
