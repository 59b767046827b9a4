// Package merkle keeps a signed Merkle tree over an audit log, so that somebody with no more than the public key can tell that a
// record is in it, and that nothing that was ever signed for has been changed, cut off or written anew.
//
// # The tree
//
// It is the tree of RFC 6962: leaf n is the hash of the record with sequence number n+1, SHA-256(0x00 ‖ bytes of the record).
// It lies beside the log in the layout of C2SP tlog-tiles (https://c2sp.org/tlog-tiles): tile/<level>/<number>, with 256
// hashes in a full tile, and tile/<level>/<number>.p/<width> for the ones at the right edge. The records themselves stay in the
// log's segments.
//
// # Checkpoints
//
// A checkpoint says how many records there are and what the root of the tree over them is, signed with Ed25519 (C2SP
// tlog-checkpoint, a note as golang.org/x/mod/sumdb/note writes it). The newest lies in the file checkpoint. One is made at
// the latest a second after a record, and after 10,000 records; older ones are what whoever keeps them compares with.
//
// # What a crash leaves
//
// The tree only ever follows the log: a checkpoint is made of records that are durable. Tiles are written before the
// checkpoint that counts them, each under another name first. They are not synced: after a power cut the tree is built anew from
// the log, and must lead to the root that was signed. A log that is shorter than its checkpoint, or leads to another root, was cut or changed: Open
// or Run say so.
package merkle
