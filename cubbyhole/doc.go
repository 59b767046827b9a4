// Package cubbyhole keeps a small store for each token, which nobody but its bearer can reach and which is gone with it.
//
// An entry is one sealed document, found by the token's accessor and the path. There is no path to another's: the accessor
// is the caller's own, as the gate found it. Who ends a token calls [Backend.Forget]; what a crash left behind, [Backend.Run]
// removes.
package cubbyhole
