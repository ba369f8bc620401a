/// A light with a wick, which goes out when that is spent.
public struct Lantern: Sendable {
    public enum State: String, CaseIterable, Sendable {
        case dark, lit, spent
    }

    public private(set) var wick: Wick
    private var kindled = false

    public init(wick: Wick) {
        self.wick = wick
    }

    public var state: State {
        if wick.isSpent { return .spent }
        return kindled ? .lit : .dark
    }

    /// A spent lantern stays dark.
    public mutating func kindle() {
        kindled = !wick.isSpent
    }

    public mutating func burn(hours: Int) {
        guard kindled else { return }
        wick.burn(hours: hours)
    }
}
