/// The parts of a day that have a greeting of their own.
public enum TimeOfDay: String, CaseIterable, Sendable {
    case night, morning, afternoon, evening

    /// The part that an hour from 0 to 23 belongs to, or nil for any other number.
    public init?(hour: Int) {
        switch hour {
        case 0..<6: self = .night
        case 6..<12: self = .morning
        case 12..<18: self = .afternoon
        case 18..<24: self = .evening
        default: return nil
        }
    }

    /// The words that a greeting begins with.
    public var salute: String { "Good \(rawValue)" }
}
