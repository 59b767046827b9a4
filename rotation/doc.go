// Package rotation owns accounts that stay and whose passwords change.
//
// There are two sorts: static roles, which are accounts that clients use, and a target's own user, as which Bailiff works
// there. Both change in one order, so that a password which works is known at every moment. The points are those of
// Config.Fault.
//
//	killed at            the last durable write     what the target takes   what ends it
//	rotate-begin         none                       the current password    –
//	rotate-next-durable  the next password          the current one         the next one is tried, and set where it doesn't work
//	rotate-changed       the next password          the next one            the next one is tried, and becomes the current
//	rotate-proven        the next password          the next one            the same
//	rotate-handed-over   the target's own: its      the next one            the same
//	                     object holds it
//	rotate-done          the next is the current    it                      –
//
// A next password, once it is durable, is never replaced by another before it is proven: an answer that never came, or a
// change that the target carries out late, can only bring that same one. The one before stays beside it until the rotation
// after, and whoever asks meanwhile is given the one of the two that the target takes.
//
// Where several processes share the store, one is at a rotation: it says so in the row, for twice the time that its calls of
// the target may take, before it touches the target, and the others wait for its end. So no change of a password is carried
// out after that of a later rotation. What a dead process was at is taken up when that time is over.
//
// Nothing is begun on a target that doesn't answer, so that one that is down keeps a password that is known. What fails is
// tried again after a random time that grows from a second to a quarter of an hour, for ever.
//
// There is no timer for an account: a loop asks the store, by an index on time, for what is due.
package rotation
