// Package broker keeps leases: every credential it has made is revoked on time, whatever happens in between.
//
// # States
//
//	          issue                released              expired, revoked, abandoned
//	(nothing) ─────▶ pending ─────────────▶ active ─────────────────────┐
//	                    │                                               ▼
//	                    └───── failed, or past its deadline ───────▶ revoking ◀──▶ stuck
//	                                                                    │            │
//	                                                                    └──▶ revoked ◀┘
//
// A lease never goes back. Every transition is one conditional write that is durable before the next step begins, so that
// the state in the store is never ahead of what is promised and never behind what exists.
//
// # What a crash leaves
//
// The points are those of Config.Fault.
//
//	point            the last durable write             what is on the target     what ends it
//	intent-before    none                               nothing                   –
//	intent-durable   pending, due at the deadline       nothing                   revoked at the deadline: finds nothing
//	created          pending, due at the deadline       the credential            revoked at the deadline
//	active-durable   active, due at its end             the credential, that      revoked when it expires, or sooner: a gate that
//	                                                    nobody may have           lives calls Abandon when it can't release it
//	revoke-before    revoking, due                      the credential            revoked after the restart
//	revoke-done      revoking, due                      nothing                   revoked once more: finds nothing
//	revoked-durable  revoked                            nothing                   –
//
// A Create whose answer never came may still run on the target after we looked there and found nothing. Producers refuse
// past the intent deadline, also on the target's side; so a lease that never became active is revoked once more when the
// deadline and Config.ClockMargin are over, and only then is it Revoked.
//
// Renew writes a later end to the target first and an earlier one to the store first; see there.
//
// # Due work
//
// There is no timer for a lease: a loop asks the store, by an index on time, for what is due now or within the next second,
// so a restart costs the same with ten leases as with a million. Each target has a lane with a bounded queue and a bounded
// number of workers. What is in a lane stays due in the store until it is done. What a full lane can't take is put off,
// durably, whenever it fills the window, so that ten thousand due leases of a dead target don't hide one of another's.
// Failures are tried again after a random time that grows from a second to a quarter of an hour; from the eighth on a lease
// is stuck: listed, and tried about once an hour for ever.
package broker
