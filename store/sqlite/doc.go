// Package sqlite keeps objects, access keys and leases in one SQLite file.
//
// One goroutine writes. It takes what is waiting, up to 512 operations or 2 ms (or as long as a commit takes, on a slow
// disk), puts it into one transaction and answers the callers when the transaction is on the disk; a caller that is alone
// does not wait for others. Each operation has a
// savepoint of its own, so that one that fails takes nothing with it. Reads go to connections of their own, which can't
// write, and see every write that was answered.
//
// What is secret is sealed before it reaches the file: the secrets of objects and the data of leases, each bound to its
// table, key and column. Times are integer nanoseconds since 1970, UTC; NULL stands for the zero time.
//
// What a stop leaves:
//
//	at any moment           every write that was answered without an error, and none of one transaction in part
//	before the answer       the write may be there or not: its caller was never told
//	after a failed write    nothing of it, unless the disk failed too: then a later start may find it, whole
//
// After an I/O error or damage the DB refuses further writes (ErrBroken), because what the disk holds is no longer known; a
// new start reads what is there. A full disk is not of this kind: writes fail with ErrFull until there is space again.
package sqlite
