// Package audit keeps the trail: an append-only, chained log that is durable before an answer leaves.
package audit

// The contract of this package:
//
//	Open(Config) (*Log, error)                         // repairs a torn tail, and records that it did
//	(*Log).Append(ctx, ...*Record) error               // sets V, Seq, Time (if zero), Node (if empty); fdatasynced on return; group commit
//	(*Log).Query(ctx, Query, func(*Record) error) error // newest first unless Query.Forward
//	(*Log).Head() Head                                 // sequence number and chain hash of the last durable record
//	(*Log).Err() error                                 // why nothing can be recorded now; nil when all is well
//	(*Log).Close() error                               // waits for what was begun
//	Verify(dir string) (Report, error)                 // offline; says what it proved and the first thing that is wrong
//	ParseTime(s string, now time.Time) (time.Time, error) // "90d", "1h30m" (ago), RFC 3339, "2026-11-01"
//
// Append fails without writing anything when the volume has less than Config.ReserveBytes free, unless every record is
// one that ends something (Record.Essential): a revocation can always be recorded.
