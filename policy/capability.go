package policy

// capability is one thing that a rule can grant, or deny. The constants are in the order of their names, in which they
// are answered.
type capability uint8

const (
	capCreate capability = iota
	capDelete
	capDeny
	capList
	capPatch
	capRead
	capSudo
	capUpdate
	numCaps
)

// String is the capability's word in Vault's language.
func (c capability) String() string {
	return [numCaps]string{"create", "delete", "deny", "list", "patch", "read", "sudo", "update"}[c]
}

// capSet is a set of capabilities, a bit for each.
type capSet uint8

func setOf(caps ...capability) capSet {
	var s capSet
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

func (s capSet) has(c capability) bool { return s&(1<<c) != 0 }

// grants says that the set holds something and not deny.
func (s capSet) grants() bool { return s != 0 && !s.has(capDeny) }

// parseCapability finds a capability by its word.
func parseCapability(word string) (capability, bool) {
	for c := capability(0); c < numCaps; c++ {
		if c.String() == word {
			return c, true
		}
	}
	return 0, false
}

// shorthand is what the old "policy" key stands for; not ok for a word it never knew.
func shorthand(word string) (capSet, bool) {
	read := setOf(capRead, capList)
	write := read | setOf(capCreate, capUpdate, capDelete)
	switch word {
	case "deny":
		return setOf(capDeny), true
	case "read":
		return read, true
	case "write":
		return write, true
	case "sudo":
		return write | setOf(capSudo), true
	}
	return 0, false
}

// needed is the capability that an operation takes; not ok for one that no capability allows.
func needed(op Operation) (capability, bool) {
	switch op {
	case Create:
		return capCreate, true
	case Read:
		return capRead, true
	case Update:
		return capUpdate, true
	case Patch:
		return capPatch, true
	case Delete:
		return capDelete, true
	case List:
		return capList, true
	}
	return 0, false
}
