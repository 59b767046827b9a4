package sys_test

import (
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/sys"
)

func TestEnds(t *testing.T) {
	var b sys.Backend
	for _, c := range []struct {
		op   policy.Operation
		path string
		want bool
	}{
		{policy.Update, "sys/leases/revoke", true},
		{policy.Update, "sys/leases/revoke/database/creds/ro/x", true},
		{policy.Update, "sys/leases/revoke-prefix/database", true},
		{policy.Update, "sys/leases/revokes", false},
		{policy.Update, "sys/leases/renew", false},
		{policy.Read, "sys/leases/revoke", false},
		{policy.Update, "auth/token/revoke-self", true},
		{policy.Delete, "sys/bailiff/identities/ci/keys/k-1", true},
		{policy.Update, "sys/bailiff/identities/ci/keys", false},
		{policy.Update, "sys/bailiff/apply", false},
	} {
		if got := b.Ends(&gate.Request{Op: c.op, Path: c.path}); got != c.want {
			t.Errorf("%s %s: got %v, want %v", c.op, c.path, got, c.want)
		}
	}
}
