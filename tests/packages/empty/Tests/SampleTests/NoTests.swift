@testable import Sample

/// A test target that holds no test.
let unused = sum([1])
