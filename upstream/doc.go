// Package upstream owns sessions with the Vault servers behind and forwards to them.
//
// A [Vault] is one target. It logs in when the first request needs it, and [Vault.Run] keeps the login alive; both work
// when the target comes up later than Bailiff. [Vault.Mount] is a gate.Backend that sends a judged request on.
//
// What is sent is built from nothing: the method from the operation, the request target from the canonical path, the
// headers from a fixed list. What comes back is passed on as a stream with the few headers that mean something to a
// client. Nothing is kept, no redirect is followed, and no request is sent a second time unless the target can't have
// acted on the first.
//
// Leases that a target issues through Bailiff belong to Bailiff's own token there and end with it. So a login is renewed
// for as long as that helps, and never revoked; where such leases matter, give Bailiff a periodic token or a role with
// token_period.
package upstream
