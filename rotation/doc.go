// Package rotation owns accounts that stay and whose passwords change.
//
// There are two sorts: static roles, which are accounts that clients use, and a target's own user, as which Bailiff works
// there. Both change in one order, so that a password which works is known at every moment:
//
//	point            the last durable write          what the target takes   what ends it
//	begin            –                               the current password    –
//	next-durable     the next password               the current one         both are tried, the next one is set (again)
//	changed          the next password               the next one            the same
//	proven           the next password               the next one            the same
//	handed-over      the target's own: its object    the next one            the same
//	current-durable  the next one is current         it                      –
//
// The points are those of Config.Fault. A next password, once it is durable, is never replaced by another before it is
// proven: an answer that never came, or a change that the target carries out late, can only bring that same one. The one
// before stays beside it until the next rotation.
//
// Nothing is begun on a target that doesn't answer, so that a target that is down keeps a password that is known. What
// fails is tried again after a random time that grows from a second to a quarter of an hour, for ever.
//
// There is no timer for an account: a loop asks the store, by an index on time, for what is due.
package rotation
