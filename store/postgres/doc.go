// Package postgres keeps objects, access keys, accounts and leases in a PostgreSQL database, which several Bailiffs share.
//
// Writes of leases that wait together share a transaction, up to 512 of them; a caller that is alone waits for nobody. Each
// group is two statements at most, whatever its size, in one round trip. What one operation asks takes nothing from the
// others: those that can't be done change no row, and where the server refuses a whole group, it is parted until the one
// that is to blame stands alone. Reads see every write that was answered, on whatever node.
//
// A write is answered when PostgreSQL has committed it. What a lost connection leaves:
//
//	before the write was sent     nothing is done, and it is sent again on another connection
//	after it was sent             it may have been done or not: the caller is told ErrUnknown, and has to look
//	a deadlock or the like        nothing is done, and it is tried again
//
// Nodes need no name and no place of their own: a lease's Seq is its node's clock with ten random bits behind it, and the
// primary key makes sure of the rest. Clocks may be five seconds apart; past that no lease is inserted and no store opened.
// Nobody is told of another's change: Changed counts them, and is cheap to ask.
//
// What is secret is sealed before it is sent: the secrets of objects, the passwords of accounts and the data of leases,
// each bound to its table, key and column. Everything lies in the schema "bailiff".
package postgres
