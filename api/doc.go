// Package api is Bailiff's own HTTP/JSON interface: types, server and client.
//
// The server is thin. Each route becomes one request to the gate on a path below sys/, or a call of package usc, and
// so is judged and recorded like any other. A token comes in a header ("Authorization: Bearer" or "X-Vault-Token") and
// never in a URL. Errors have one form, see Error.
package api
