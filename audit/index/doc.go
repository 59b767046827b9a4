// Package index finds records of an audit log without reading the log: by path, by identity, by lease, principal and request, and
// who had what, from sums for each day.
//
// It is a SQLite database beside the log that follows it. It holds nothing that is not in the log, and no values: numbers of
// records, the paths and names of identities in the clear, and hashes of lease, principal and request ids. Whatever becomes
// of it, it is built anew from the log while the log goes on; questions are then answered from the log itself. What it has not
// taken in yet is read from the log, so an answer is never behind.
//
// The index and its place in the log are committed together. It remembers the hash of the record that it took in last: when the log does
// not hold that record any more, the index is of another log, and is built anew.
package index
