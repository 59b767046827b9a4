// Package audit keeps the trail: an append-only, chained log that is durable before an answer leaves.
//
// # The log
//
// A log is a directory of segment files. One process at a time has it open (an exclusive flock on the directory). A
// segment is named after the sequence number of its first record, twenty decimal digits and ".audit", so the newest
// segment is found without reading the older ones. Numbers are little-endian.
//
//	header   magic "BFAUDIT\n" · version u32 · zero u32 · first sequence number u64 · chain hash before it [32] ·
//	         earliest and latest time of the segment before it, Unix nanoseconds i64 i64 · zero u32 · CRC-32C u32
//	frame    marker FF 'B' 'A' 01 · length of the record u32 · distance from the start of its batch u32 ·
//	         CRC-32C u32 · record · chain hash [32]
//
// The CRC of a header covers all bytes before it; that of a frame covers the length, the distance, the record and the
// chain hash. A record is one JSON object in UTF-8 that begins with v, seq and time, in that order; the byte FF of the
// marker can't occur in it. A new segment is written under another name, synced, renamed, and the directory is synced,
// before a record goes into it.
//
// # The chain
//
// The chain hash of a record is SHA-256(chain hash of the record before it ‖ bytes of the record). Before record 1 it is
// SHA-256 of "bailiff audit chain v1\n". The chain is laid over the bytes of the records alone and knows nothing of frames or
// segments. It shows a changed, removed or inserted record. It can't show that whole records were cut off the end, nor
// that everything was written anew: for that, compare Head with one noted elsewhere (VerifyAgainst).
//
// # What a crash leaves
//
// Records are written in batches: one write, one fdatasync. A batch is begun only after the one before it is durable, so a
// crash can tear only the last. Open cuts off a frame that isn't whole when nothing valid follows it, or only frames of
// the same batch behind a hole that was never written, and appends an event that says so. Anything else is damage, and
// Open refuses it with words on what to do. Nobody was told that a record in a torn batch was kept.
//
// # When nothing can be recorded
//
// An error of a write or a sync is final: the log refuses everything until it is opened again, because after a failed
// sync the kernel may have dropped the pages that it says are clean. A volume without room is not final, as long as the
// log can be cut back to its last durable record. The active segment is checked before and after each commit, and once a
// second: when it was deleted, replaced, cut or grown by somebody else, the log refuses everything.
//
// The segments before it are looked at when the log is opened, and once a second. What was done to one is recorded and
// shown (Damage); the log goes on, because it is the past that somebody must look at.
//
// Below Config.ReserveBytes of free space only records that end something are taken (see Record.Essential), and, down to
// half of the reserve, records of what was denied or refused. So a full volume stops issuing before it stops revoking,
// and a flood of refused requests can't use up the room that revocations need.
package audit
