package auth

import "net/netip"

// Guard is a guard, for tests in time.
type Guard struct{ *guard }

// NewGuard makes one.
func NewGuard(l Limits) Guard { return Guard{newGuard(l)} }

// Enter is enter.
func (g Guard) Enter(m *Mount, name string, from netip.Addr) error { return g.enter(m, name, from) }

// Locked is locked.
func (g Guard) Locked(m *Mount, name string) bool { return g.locked(m, name) }

// Wrong is wrong.
func (g Guard) Wrong(m *Mount, name string, from netip.Addr, known bool) {
	g.wrong(m, name, from, known)
}

// Remembered counts what is remembered.
func (g Guard) Remembered() int {
	return len(g.known.byKey) + len(g.invented.byKey) + len(g.addresses.byKey) + len(g.names.byKey) + len(g.wrongs.byKey)
}
