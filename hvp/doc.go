// Package hvp speaks the HashiCorp Vault HTTP dialect and does nothing else.
//
// A [Handler] turns each request below /v1/ into one gate.Request and the gate's answer into Vault's shapes, as Vault 1.13
// writes them. The few paths that Vault answers without a token (sys/health, sys/seal-status, sys/leader, sys/init) are
// answered from an [Info].
//
// The Handler reads the request target as it came: it must be reached without a mux that cleans paths in front of it, as
// http.ServeMux does. Headers of a client never go further than this package, but for the ones that gate.Request names.
//
// A namespace is a prefix of paths, in the path or in X-Vault-Namespace. HEAD is for the status paths alone: a read whose
// answer nobody gets must not happen.
package hvp
