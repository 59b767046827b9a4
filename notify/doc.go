// Package notify tells others what becomes of leases: it sends events to webhooks.
//
// The audit trail is the queue. What happened to a lease is a record there before it is done, and each webhook is a cursor
// behind the trail of this node, kept in the store. So a webhook that is down for an hour gets everything when it is back,
// in order, and nothing that is sent can hold up a lease: the trail is only read, by a goroutine of its own for each webhook.
//
// That a lease comes to its end is nothing that happens. One node at a time, by a claim in the store, looks each second for
// leases that have come within a webhook's time before their end, by index, and makes a record of each, which then is an
// event like the others.
//
// # What a crash leaves
//
//	between                                             leaves
//	the record and the end of the lease                 the lease is ended and recorded once more: two events of one id
//	the record that a lease expires and its cursor      the same
//	the answer of the webhook and its cursor            what was answered in the last second is sent once more, with the
//	                                                    same ids
//
// An event is sent until it is answered with a 2xx; a receiver sorts out by id what comes twice. Only an event that the
// receiver refuses for itself (4xx) is given up after Config.Refusals tries, so that it does not hide those behind it; it is
// recorded and counted as lost. So is what a trail that was cut off or replaced does not hold any more.
package notify
