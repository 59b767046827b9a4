package policy

import (
	"net/netip"
	"time"
)

// Context is who asks, when and from where: what conditions can look at.
type Context struct {
	Time     time.Time // zero: now
	Addr     netip.Addr
	Identity string // its name
	EntityID string
	Method   string // of the login
	Metadata map[string]string
	Groups   []string          // ids, sorted
	Claims   map[string]string // what decided at the login
	Reason   string            // what the caller says it is for
	Ticket   string            // where that is written down
}
