package identity

// Refusal is an ErrUnauthenticated with its reason, for the record. It is never shown to the client.
type Refusal struct {
	Reason string // "no token", "malformed token", "unknown access id", "wrong key", "key disabled", "key expired", "identity disabled"
}

func (r *Refusal) Error() string { return ErrUnauthenticated.Error() }

// Unwrap makes errors.Is(err, ErrUnauthenticated) true.
func (r *Refusal) Unwrap() error { return ErrUnauthenticated }
