package sys

import (
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Ends tells which requests end something: leases, keys. See gate.Ender.
func (b *Backend) Ends(r *gate.Request) bool {
	switch r.Op {
	case policy.Create, policy.Update, policy.Delete:
	default:
		return false
	}
	if r.Path == "sys/bailiff/revocations/preview" {
		return false
	}
	if strings.HasPrefix(r.Path, "sys/bailiff/leases/") && strings.HasSuffix(r.Path, "/retry") {
		return true
	}
	for _, path := range [...]string{
		"sys/leases/revoke", "sys/leases/revoke-prefix", "sys/leases/revoke-force", "sys/revoke", "sys/revoke-prefix", "sys/revoke-force",
		"sys/bailiff/revocations", "auth/token/revoke", "auth/token/revoke-self", "auth/token/revoke-accessor",
	} {
		if r.Path == path || strings.HasPrefix(r.Path, path+"/") {
			return true
		}
	}
	return r.Op == policy.Delete && strings.HasPrefix(r.Path, "sys/bailiff/identities/")
}
