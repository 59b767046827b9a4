// Package wrapping keeps answers for whoever presents a token that is good once.
//
// An answer is one sealed document, found by the hash of its token. To open it is to remove it: whoever's removal is the
// one that the store did gets the answer, and nobody else, on whichever server they ask. What nobody fetched in time is
// removed by [Keeper.Run]; it can't be opened any more from the moment when its time is over.
//
// The token itself is kept nowhere. A lease in a kept answer goes on as it would have without: it belongs to who asked for
// it, and ends when it ends.
package wrapping
