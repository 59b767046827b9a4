package postgres

import "testing"

// Hold takes a connection of the pool until release is called.
func (p *Producer) Hold(t testing.TB) (release func()) {
	t.Helper()
	pool, err := p.connections()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn.Release
}
