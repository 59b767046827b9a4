package sys

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// call is one request with the arguments of its path.
type call struct {
	*gate.Request
	args    map[string]string
	ignored []string                   // fields of the body that nobody knows
	read    map[string]json.RawMessage // what text has read of the body
}

type handler func(ctx context.Context, c *call) (*gate.Response, error)

// route is one operation on one pattern. In a pattern {x} is a segment and {x...}, at its end, the rest of the path.
// A route whose op is empty answers every operation that no route before it does.
type route struct {
	op    policy.Operation
	path  string
	serve handler
}

func (b *Backend) table() []route {
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	return []route{
		// Vault's, as the command line asks for them.
		{read, "sys/internal/ui/mounts", b.uiMounts},
		{read, "sys/internal/ui/mounts/{path...}", b.uiMount},
		{read, "sys/internal/ui/resultant-acl", b.resultantACL},
		{read, "sys/mounts", b.mounts},
		{"", "sys/mounts/auth/{path...}", b.auth}, // vault auth tune
		{read, "sys/mounts/{path...}", b.mountOrTune},
		{update, "sys/mounts/{path...}", b.changeMount},
		{remove, "sys/mounts/{path...}", b.disableMount},
		{"", "sys/auth", b.auth},
		{"", "sys/auth/{path...}", b.auth},
		{update, "sys/locked-users/{accessor}/unlock/{name...}", b.unlock},
		{list, "sys/version-history", b.versions},
		{read, "sys/audit", b.auditDevices},
		{"", "sys/audit/{path...}", notHere("the audit trail is always on and is not switched: see bailiff audit query")},

		{update, "sys/capabilities-self", b.capabilitiesSelf},
		{update, "sys/capabilities", b.capabilities},
		{update, "sys/capabilities-accessor", b.capabilitiesAccessor},

		{read, "sys/leases", b.stuckLeases},
		{read, "sys/leases/count", b.countLeases},
		{list, "sys/leases/lookup", b.leaseKeys},
		{update, "sys/leases/lookup", b.lookupLease},
		{list, "sys/leases/lookup/{prefix...}", b.leaseKeys},
		{update, "sys/leases/renew", b.renewLease},
		{update, "sys/leases/renew/{id...}", b.renewLease},
		{update, "sys/renew", b.renewLease},
		{update, "sys/renew/{id...}", b.renewLease},
		{update, "sys/leases/revoke", b.revokeLease},
		{update, "sys/leases/revoke/{id...}", b.revokeLease},
		{update, "sys/revoke", b.revokeLease},
		{update, "sys/revoke/{id...}", b.revokeLease},
		{update, "sys/leases/revoke-prefix/{prefix...}", b.revokePrefix},
		{update, "sys/revoke-prefix/{prefix...}", b.revokePrefix},
		{update, "sys/leases/revoke-force/{prefix...}", b.revokeForce},
		{update, "sys/revoke-force/{prefix...}", b.revokeForce},

		{update, "sys/leases/tidy", b.tidyLeases},
		{update, "sys/tools/random", b.random},
		{update, "sys/tools/random/{source}", b.random},
		{update, "sys/tools/random/{source}/{bytes}", b.random},
		{update, "sys/tools/hash", b.hash},
		{update, "sys/tools/hash/{algorithm}", b.hash},
		{update, "sys/remount", b.remount},
		{read, "sys/remount/status/{id}", b.remountStatus},

		// Ours.
		{read, "sys/bailiff/audit", b.queryTrail},
		{read, "sys/bailiff/audit/who-had", b.whoHad},
		{read, "sys/bailiff/audit/key", b.trailKey},
		{read, "sys/bailiff/audit/checkpoint", b.checkpoint},
		{read, "sys/bailiff/audit/proofs/{seq}", b.proof},
		{update, "sys/bailiff/plan", b.plan},
		{update, "sys/bailiff/apply", b.apply},
		{list, "sys/bailiff/objects/{kind}", b.objects},
		{read, "sys/bailiff/objects/{kind}/{name...}", b.object},
		{remove, "sys/bailiff/objects/{kind}/{name...}", b.deleteObject},
		{update, "sys/bailiff/identities/{name}", b.putIdentity},
		{list, "sys/bailiff/identities/{name}/keys", b.keys},
		{update, "sys/bailiff/identities/{name}/keys", b.addKey},
		{update, "sys/bailiff/identities/{name}/keys/{id}", b.changeKey},
		{remove, "sys/bailiff/identities/{name}/keys/{id}", b.deleteKey},
		{list, "sys/bailiff/leases", b.listLeases},
		{read, "sys/bailiff/leases/{id...}", b.lease},
		{update, "sys/bailiff/leases/{id...}", b.changeLease},
		{list, "sys/bailiff/revocations", b.revocations},
		{update, "sys/bailiff/revocations", b.revokeMany},
		{update, "sys/bailiff/revocations/preview", b.preview},
		{read, "sys/bailiff/revocations/{id}", b.revocation},
		{update, "sys/bailiff/reconcile/{target}", b.reconcile},
		{read, "sys/bailiff/drift", b.drift},
		{read, "sys/bailiff/discover/{target}", b.discover},
		{read, "sys/bailiff/recover", b.recoverPlan},
		{update, "sys/bailiff/recover", b.recover},
		{read, "sys/bailiff/status", b.status},
	}
}

// find looks for what serves op on path, which is canonical.
func (b *Backend) find(op policy.Operation, path string) (handler, map[string]string, error) {
	if op == policy.Create {
		op = policy.Update
	}
	known := false
	for i := range b.routes {
		args, ok := match(b.routes[i].path, path)
		if !ok {
			continue
		}
		known = true
		if b.routes[i].op == op || b.routes[i].op == "" {
			return b.routes[i].serve, args, nil
		}
	}
	if known {
		return nil, nil, gate.Errorf(gate.Unsupported, oneError, "unsupported operation")
	}
	return nil, nil, gate.Errorf(gate.NotFound, oneError, "unsupported path")
}

// oneError is the form in which Vault says what its router has to say.
const oneError = "1 error occurred:\n\t* %s\n\n"

// match finds the arguments of a path that fits a pattern.
func match(pattern, path string) (map[string]string, bool) {
	var args map[string]string
	for pattern != "" {
		p, restPattern, _ := strings.Cut(pattern, "/")
		segment, rest, more := strings.Cut(path, "/")
		name, variable := strings.CutPrefix(strings.TrimSuffix(p, "}"), "{")
		switch {
		case segment == "":
			return nil, false
		case !variable:
			if p != segment {
				return nil, false
			}
		default:
			if args == nil {
				args = map[string]string{}
			}
			if name, many := strings.CutSuffix(name, "..."); many {
				args[name] = path
				return args, true
			}
			args[name] = segment
		}
		if restPattern == "" {
			return args, !more
		}
		pattern, path = restPattern, rest
	}
	return args, false
}

// notHere is what answers a path of Vault's that isn't served.
func notHere(why string) handler {
	return func(context.Context, *call) (*gate.Response, error) {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: why}
	}
}

func invalid(format string, args ...any) error { return gate.Errorf(gate.Invalid, format, args...) }

func ok(data map[string]any) *gate.Response { return &gate.Response{Data: data} }

func done(detail string) *gate.Response {
	return &gate.Response{Status: gate.NoContent, Detail: detail}
}
