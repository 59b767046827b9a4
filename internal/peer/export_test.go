package peer

// ReadHeader is readHeader, for tests.
var ReadHeader = readHeader
