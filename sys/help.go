package sys

import (
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
)

// helpText says what a path is for. A {x} is a segment, and {x...} the rest.
type helpText struct{ path, text string }

// helpTexts are by mount, in the order in which they are listed. The first that fits counts.
func helpTexts() []helpText {
	return []helpText{
		{"sys/mounts", "Lists the mounts of secrets engines: those that are governed, and Bailiff's own."},
		{"sys/mounts/{path...}", "One mount: what it is, and below /tune how long its leases live."},
		{"sys/remount", "Moves a mount."},
		{"sys/auth", "Lists the auth methods that are mounted."},
		{"sys/auth/{path...}", "Mounts, shows and unmounts an auth method; below /tune how long its tokens live."},
		{"sys/policies/acl", "Lists the policies."},
		{"sys/policies/acl/{name}", "Reads, writes and deletes a policy."},
		{"sys/policy", "Lists the policies; the older path."},
		{"sys/policy/{name}", "Reads, writes and deletes a policy; the older path."},
		{"sys/capabilities", "Tells what a token may do on paths: token, paths."},
		{"sys/capabilities-self", "Tells what the caller may do on paths: paths."},
		{"sys/capabilities-accessor", "Tells what the token of an accessor may do on paths: accessor, paths."},
		{"sys/leases", "Lists leases that could not be ended: type=irrevocable."},
		{"sys/leases/count", "Counts leases."},
		{"sys/leases/lookup", "Shows a lease: lease_id. A list needs a path behind it."},
		{"sys/leases/lookup/{prefix...}", "Lists the leases below a path."},
		{"sys/leases/renew", "Moves the end of a lease: lease_id, increment in seconds."},
		{"sys/leases/renew/{id...}", "Moves the end of a lease: increment in seconds."},
		{"sys/leases/revoke", "Ends a lease: lease_id; with sync it is ended when the answer comes."},
		{"sys/leases/revoke/{id...}", "Ends a lease; with sync it is ended when the answer comes."},
		{"sys/leases/revoke-prefix/{prefix...}", "Ends every lease below a path. It needs the sudo capability."},
		{"sys/leases/revoke-force/{prefix...}", "Ends every lease below a path, and forgets those that the target refuses to end. It needs the sudo capability."},
		{"sys/leases/tidy", "Looks for leases that are over and still there."},
		{"sys/renew", "Moves the end of a lease; the older path."},
		{"sys/revoke", "Ends a lease; the older path."},
		{"sys/audit", "Shows the audit trail as the one device that there is. It is always on."},
		{"sys/wrapping/wrap", "Wraps what is written: the answer is a token that is good once."},
		{"sys/wrapping/unwrap", "Gives out what a wrapping token stands for, once: token, or the caller's own."},
		{"sys/wrapping/lookup", "Tells about a wrapping token without using it: token, or the caller's own."},
		{"sys/wrapping/rewrap", "Replaces a wrapping token by a new one: token."},
		{"sys/tools/random", "Makes random bytes: bytes, format (base64 or hex)."},
		{"sys/tools/random/{source...}", "Makes random bytes, as many as the path says."},
		{"sys/tools/hash", "Hashes input, which is base64: algorithm, format (hex or base64)."},
		{"sys/tools/hash/{algorithm}", "Hashes input, which is base64."},
		{"sys/internal/ui/mounts", "The mounts below which the caller may do something."},
		{"sys/internal/ui/mounts/{path...}", "The mount that serves a path."},
		{"sys/internal/ui/resultant-acl", "What the caller may do, all paths together."},
		{"sys/version-history", "The versions of Bailiff that this store has seen."},
		{"sys/health", "Tells whether requests are served; the status code says it too."},
		{"sys/seal-status", "Tells whether requests can be recorded, and so be served."},
		{"sys/leader", "Tells which node answers: every one does."},
		{"sys/init", "Tells whether there is an administrator."},
		{"sys/bailiff/{rest...}", "Bailiff's own: objects, identities, leases, revocations, the trail. The bailiff command knows them."},

		{"auth/token/create", "Makes a token, a child of the caller's: policies, ttl, explicit_max_ttl, period, num_uses, display_name, meta, renewable, type, no_default_policy."},
		{"auth/token/create-orphan", "Makes a token without a parent. It needs the sudo capability."},
		{"auth/token/create/{role}", "Makes a token as a role says."},
		{"auth/token/lookup-self", "Shows the caller's token."},
		{"auth/token/lookup", "Shows a token: token."},
		{"auth/token/lookup-accessor", "Shows a token by its accessor: accessor."},
		{"auth/token/renew-self", "Moves the end of the caller's token: increment."},
		{"auth/token/renew", "Moves the end of a token: token, increment."},
		{"auth/token/renew-accessor", "Moves the end of a token by its accessor: accessor, increment."},
		{"auth/token/revoke-self", "Ends the caller's token, its children and their leases."},
		{"auth/token/revoke", "Ends a token, its children and their leases: token."},
		{"auth/token/revoke-accessor", "Ends a token by its accessor: accessor."},
		{"auth/token/revoke-orphan", "Ends a token and leaves its children: token. It needs the sudo capability."},
		{"auth/token/accessors", "Lists the accessors of all tokens. It needs the sudo capability."},
		{"auth/token/roles", "Lists the roles for tokens."},
		{"auth/token/roles/{role}", "Reads, writes and deletes a role for tokens."},
		{"auth/token/tidy", "Looks for tokens that are over and still there."},
	}
}

// help says what a path is for, or what there is below a mount, in the shape of Vault's path help.
func (b *Backend) help(r *gate.Request) (*gate.Response, error) {
	if r.Rest == "" {
		return b.overview(r.Path)
	}
	for _, h := range helpTexts() {
		if _, ok := match(h.path, r.Path); ok {
			return helpOf("Request:        " + r.Rest + "\nMatching Route: " + h.path[len(r.Path)-len(r.Rest):] + "\n\n" + h.text + "\n"), nil
		}
	}
	for i := range b.routes {
		if _, ok := match(b.routes[i].path, r.Path); ok {
			return helpOf("Request:        " + r.Rest + "\nMatching Route: " + b.routes[i].path[len(r.Path)-len(r.Rest):] + "\n"), nil
		}
	}
	return nil, gate.Errorf(gate.NotFound, oneError, "unsupported path")
}

func (b *Backend) overview(mount string) (*gate.Response, error) {
	var out strings.Builder
	out.WriteString("## PATHS\n\nWhat there is below " + mount + "/. For one of them ask for help with its path.\n")
	for _, h := range helpTexts() {
		if below, ok := strings.CutPrefix(h.path, mount+"/"); ok {
			out.WriteString("\n    " + below + "\n        " + h.text + "\n")
		}
	}
	return helpOf(out.String()), nil
}

func helpOf(text string) *gate.Response {
	return &gate.Response{Bare: true, Data: map[string]any{"help": text, "see_also": []string{}}}
}
