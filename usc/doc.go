// Package usc owns connectors: secrets in a Vault's KV, listed and changed in place.
//
// A secret id is turned into the path of Vault's own API before anything is judged, so that one rule governs a secret
// whichever door it is asked for at:
//
//	operation           KV v2                            KV v1
//	list                list   <mount>/metadata/<dir>    list   <mount>/<dir>
//	get                 read   <mount>/data/<path>       read   <mount>/<path>
//	create, update      update <mount>/data/<path>       update <mount>/<path>
//	delete              delete <mount>/data/<path>       delete <mount>/<path>
//	delete (all)        delete <mount>/metadata/<path>   –
//
// Create and Update are check-and-set on KV v2. KV v1 has none: there a read comes first, and of two writers at the same
// moment the later one wins. Nothing is kept here: every call is one or more requests to the gate.
package usc
