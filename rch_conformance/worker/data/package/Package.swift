// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "Conformance",
    products: [.library(name: "Conformance", targets: ["Conformance"])],
    targets: [
        .target(name: "Conformance"),
        .testTarget(name: "ConformanceTests", dependencies: ["Conformance"]),
    ]
)
