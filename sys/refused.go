package sys

// refused is the routes of Vault's that have no place here, each with what there is instead.
func refused() []route {
	const (
		operates = "this is for whoever runs a Vault: ask the Vault behind itself"
		counts   = "nothing is counted for licences: see the metrics and bailiff audit query"
		seals    = "there is no seal to turn: the root key is read at the start"
	)
	var out []route
	for _, r := range []struct {
		why   string
		paths []string
	}{
		{"what the host is like is nobody's business: see the metrics", []string{"host-info", "in-flight-req", "metrics", "monitor", "pprof", "pprof/{rest...}", "loggers", "loggers/{rest...}"}},
		{counts, []string{"internal/counters/{rest...}", "license", "license/{rest...}"}},
		{"the paths are those of Vault 1.13: see docs/vault-compat.md", []string{"internal/specs/{rest...}"}},
		{seals, []string{"seal", "unseal", "step-down", "rekey/{rest...}", "rekey-recovery-key/{rest...}", "generate-root/{rest...}", "rotate", "rotate/{rest...}", "key-status", "sealwrap/{rest...}"}},
		{operates, []string{
			"raw", "raw/{rest...}", "plugins/{rest...}", "storage/{rest...}", "replication/{rest...}", "config/{rest...}", "ha-status", "quotas/{rest...}",
			"managed-keys/{rest...}", "experiments", "internal/inspect/{rest...}",
		}},
		{"Bailiff asks for no second factor", []string{"mfa/{rest...}"}},
		{"policies are those of sys/policies/acl", []string{"policies/egp", "policies/egp/{rest...}", "policies/rgp", "policies/rgp/{rest...}"}},
		{"passwords are made as each target wants them", []string{"policies/password", "policies/password/{rest...}"}},
	} {
		for _, p := range r.paths {
			out = append(out, route{"", "sys/" + p, notHere(r.why)})
		}
	}
	return out
}
