// Package broker keeps leases: every credential it has made is revoked on time, whatever happens in between.
//
// # States
//
//	          made ahead of demand
//	(nothing) ─────▶ pooled ──────────────────┐ handed out
//	   │                │                     ▼        expired, revoked, abandoned
//	   │ issue          │ too old       ┌▶ active ────────────────────┐
//	   └────▶ pending ──┼───────────────┘                             ▼
//	             │      └──────────────────────────────────────▶ revoking ◀──▶ stuck
//	             └───── failed, or past its deadline ─────────────▶  │           │
//	                                                                 └▶ revoked ◀┘
//
// A lease of a warm pool is pooled between pending and active: made, disabled on the target, without an owner. It becomes
// active, with its owner, before its credential is enabled; too old or not wanted any more, it becomes revoking.
//
// A lease never goes back. Every transition is one conditional write, by state and version, that is durable before the next
// step begins, so that the state in the store is never ahead of what is promised and never behind what exists. From stuck or
// any other state a person with a reason can give a lease up (Force): it is revoked without the target having been asked,
// and what may still be alive is recorded first.
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
//	many-durable     the revocation of many             the credentials           expanded after the restart; lookup and renew
//	                                                                              refuse the leases from the start on
//	many-expanded    a page of revoking leases, and     the credentials           those are due; expansion goes on behind the
//	                 the cursor behind it                                         cursor
//
// An issue waits twice for the disk, not four times: the pending row becomes durable beside the gate's record of the request,
// and the target is reached when both are; the active row becomes durable beside the record of the answer, and the answer
// leaves when both are. A crash between the two of a pair leaves one of them:
//
//	the request's record alone      nothing was done; the trail says that something was begun
//	the pending row alone           as intent-durable; the trail tells of its end
//	the answer's record alone       as created: no answer has left, and the lease is revoked at the deadline
//	the active row alone            as active-durable
//
// Where one of a pair fails and the other doesn't, nothing is released: a pending lease of which the target has not heard is
// revoked without asking it, and an answer that was recorded and is not given is taken back by another record.
//
// A crash in the middle of a page leaves the cursor before it: the page is marked once more, which changes nothing for those
// that were. Where several brokers share the store, what a dead one held is due for the others when its claim or its hold is
// over, and its revocations of many are taken over when they have stood still for ten seconds.
//
// A Create whose answer never came may still run on the target after we looked there and found nothing. Producers refuse
// past the intent deadline, also on the target's side; so a lease that never became active is revoked once more when the
// deadline and Config.ClockMargin are over, and only then is it Revoked.
//
// Renew writes a later end to the target first, whose own never moves back, and an earlier one to the store alone; see there.
//
// # Due work
//
// There is no timer for a lease: a loop asks the store, by an index on time, for what is due now or within the next second,
// so a restart costs the same with ten leases as with a million. What is in work stays due in the store until it is done;
// where several brokers share the store, each claims what it takes, and holds what it works on by its time. What a full lane
// can't take is put off, durably, whenever it fills the window, so that ten thousand due leases of one target don't hide one
// of another's. Failures are tried again after a random time that grows from a second to a quarter of an hour; from the
// eighth on a lease is stuck: listed, and tried about once an hour for ever.
//
// # Targets
//
// Each target has a lane with bounded queues. Issues, renewals and revocations take places of one limit, which grows by one
// after as many successes as it is and is halved when the target is silent or says that it has too much to do. Issues go
// first and leave a quarter of the places to revocations that wait; then comes what somebody asked for, then what expired,
// then sweeps. A target's first worker is its own; more of them come out of a budget that all share, by deficit round-robin,
// so that those whose work takes long begin less often. What somebody asked for does not wait behind a batch. A place is given
// back when the target has answered; the write that follows takes none, and up to 256 of a target may wait for the store.
//
// After several silences in a row a target is not asked any more, apart from one probe at a time: an issue fails at once,
// and what is due fails without being tried, which moves it out of the way of others by its backoff. A person's revocation
// is always let through as the probe. When a probe is answered, whatever failed because of the silence is due at the pace
// at which the target works.
//
// # Revocations of many
//
// RevokeMany writes one row, however many leases it picks, and from then on lookup and renew refuse them. A loop marks them
// a page at a time by index, and counts until none is open. The row tells how far it is; leases issued after it are not
// meant.
package broker
