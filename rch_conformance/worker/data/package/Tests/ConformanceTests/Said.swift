import Foundation

/// Writes a line at once, past every buffer.
func say(_ text: String) {
    FileHandle.standardOutput.write(Data("\(text)\n".utf8))
}

/// Letters of one to four bytes, so that a log which is cut in the middle of one is found out.
func sayLines() {
    for number in 1...300 {
        say("conformance line \(number) é 漢字 🦊")
    }
}

/// A line that fills half a block: SwiftPM passes on what a test says four thousand bytes at a time.
func tick(_ number: Int) -> String {
    "conformance tick \(number) " + String(repeating: ".", count: 2000)
}
