package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/usc"
)

// route is one method on one pattern: {x} is a segment, {x...} is the rest of the path with its slashes.
type route struct {
	method, pattern string
	query           []string // names that the query may hold
	serve           func(*call) (answer, error)
}

// match finds the arguments of a path that fits the pattern.
func (rt route) match(path string) (map[string]string, bool) {
	args := map[string]string{}
	pattern := strings.Split(rt.pattern, "/")
	segments := strings.Split(path, "/")
	for i, p := range pattern {
		if i >= len(segments) {
			return nil, false
		}
		name, variable := strings.CutPrefix(strings.TrimSuffix(p, "}"), "{")
		rest, many := strings.CutSuffix(name, "...")
		switch {
		case variable && many:
			args[rest] = strings.Join(segments[i:], "/")
			return args, true
		case variable:
			args[name] = segments[i]
		case p != segments[i]:
			return nil, false
		}
	}
	return args, len(pattern) == len(segments)
}

func (s *server) table() []route {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	auditQuery := []string{"path", "identity", "op", "status", "via", "lease", "principal", "request_id", "since", "until", "limit", "before"}
	leaseQuery := []string{"prefix", "identity", "target", "mount", "role", "producer", "token", "claim", "state", "cause", "after", "limit"}
	return []route{
		{get, "status", nil, s.pass(policy.Read, "sys/bailiff/status")},
		{get, "audit", auditQuery, s.pass(policy.Read, "sys/bailiff/audit")},
		{get, "audit/who-had", []string{"path", "since", "until"}, s.pass(policy.Read, "sys/bailiff/audit/who-had")},
		{get, "audit/key", nil, s.pass(policy.Read, "sys/bailiff/audit/key")},
		{get, "audit/checkpoint", nil, s.pass(policy.Read, "sys/bailiff/audit/checkpoint")},
		{get, "audit/proofs/{seq}", nil, s.pass(policy.Read, "sys/bailiff/audit/proofs/{seq}")},
		{post, "plan", nil, forward[PlanRequest](s, "sys/bailiff/plan")},
		{post, "apply", nil, forward[PlanRequest](s, "sys/bailiff/apply")},
		{get, "objects/{kind}", nil, s.pass(policy.List, "sys/bailiff/objects/{kind}")},
		{get, "objects/{kind}/{name...}", nil, s.pass(policy.Read, "sys/bailiff/objects/{kind}/{name}")},
		{del, "objects/{kind}/{name...}", []string{"version"}, s.pass(policy.Delete, "sys/bailiff/objects/{kind}/{name}")},
		{post, "identities/{name}", nil, forward[IdentityRequest](s, "sys/bailiff/identities/{name}")},
		{get, "identities/{name}/keys", nil, s.pass(policy.List, "sys/bailiff/identities/{name}/keys")},
		{post, "identities/{name}/keys", nil, forward[KeyRequest](s, "sys/bailiff/identities/{name}/keys")},
		{patch, "identities/{name}/keys/{id}", nil, forward[KeyChange](s, "sys/bailiff/identities/{name}/keys/{id}")},
		{del, "identities/{name}/keys/{id}", nil, s.pass(policy.Delete, "sys/bailiff/identities/{name}/keys/{id}")},
		{get, "leases", leaseQuery, s.pass(policy.List, "sys/bailiff/leases")},
		{post, "leases/renew", nil, s.lease("sys/leases/renew")},
		{post, "leases/revoke", nil, s.lease("sys/leases/revoke")},
		{post, "leases/retry", nil, s.retryLease},
		{post, "leases/force", nil, s.forceLease},
		{get, "leases/{id...}", nil, s.pass(policy.Read, "sys/bailiff/leases/{id}")},
		{get, "revocations", []string{"limit"}, s.pass(policy.List, "sys/bailiff/revocations")},
		{post, "revocations", nil, forward[RevocationRequest](s, "sys/bailiff/revocations")},
		{post, "revocations/preview", nil, forward[RevocationRequest](s, "sys/bailiff/revocations/preview")},
		{get, "revocations/{id}", nil, s.pass(policy.Read, "sys/bailiff/revocations/{id}")},
		{get, "recover", nil, s.pass(policy.Read, "sys/bailiff/recover")},
		{post, "recover", nil, forward[RecoverRequest](s, "sys/bailiff/recover")},
		{post, "reconcile/{target}", nil, forward[ReconcileRequest](s, "sys/bailiff/reconcile/{target}")},
		{get, "drift", nil, s.pass(policy.Read, "sys/bailiff/drift")},
		{get, "discover/{target}", nil, s.pass(policy.Read, "sys/bailiff/discover/{target}")},
		{post, "usc/list", nil, s.uscList},
		{post, "usc/get", nil, s.uscGet},
		{post, "usc/create", nil, s.uscCreate},
		{post, "usc/update", nil, s.uscUpdate},
		{post, "usc/delete", nil, s.uscDelete},
	}
}

// pass is a route without a body: one request to the gate.
func (s *server) pass(op policy.Operation, path string) func(*call) (answer, error) {
	return func(c *call) (answer, error) { return s.do(c, op, expand(path, c.args), nil) }
}

// forward is a route whose body, a T, goes on as it is once it has been read strictly.
func forward[T any](s *server, path string) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		var in T
		if err := s.decode(c, &in); err != nil {
			return answer{}, err
		}
		return s.do(c, policy.Update, expand(path, c.args), in)
	}
}

// lease is renew or revoke: the lease id comes in the body.
func (s *server) lease(path string) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		var in LeaseRequest
		if err := s.decode(c, &in); err != nil {
			return answer{}, err
		}
		if err := s.checkLeaseID(c, in.LeaseID); err != nil {
			return answer{}, err
		}
		return s.do(c, policy.Update, path, in)
	}
}

func (s *server) checkLeaseID(c *call, id string) error {
	if err := vpath.Check(id); err != nil {
		return s.refuse(c, gate.Invalid, "lease_id: "+err.Error())
	}
	return nil
}

// retryLease and forceLease name in the path what came in the body.
func (s *server) retryLease(c *call) (answer, error) {
	var in LeaseRetry
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	if err := s.checkLeaseID(c, in.LeaseID); err != nil {
		return answer{}, err
	}
	return s.do(c, policy.Update, "sys/bailiff/leases/"+in.LeaseID+"/retry", nil)
}

func (s *server) forceLease(c *call) (answer, error) {
	var in LeaseForce
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	if err := s.checkLeaseID(c, in.LeaseID); err != nil {
		return answer{}, err
	}
	return s.do(c, policy.Update, "sys/bailiff/leases/"+in.LeaseID+"/force", map[string]string{"reason": in.Reason})
}

// expand fills a path's {x}. The arguments are canonical, so that what comes out is so too.
func expand(path string, args map[string]string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, "{"); ok {
			parts[i] = args[strings.TrimSuffix(name, "}")]
		}
	}
	return strings.Join(parts, "/")
}

func (c *call) usc() usc.Call {
	return usc.Call{Token: c.token, ClientAddr: c.from.Addr, ProxyAddr: c.from.Proxy, UserAgent: c.UserAgent(), RequestID: c.id}
}

func (s *server) uscList(c *call) (answer, error) {
	var in USCList
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	found, err := s.cfg.USC.List(c.Context(), c.usc(), usc.ListInput{Connector: in.Name, Path: in.Path, Flat: in.Flat})
	if err != nil {
		return answer{}, err
	}
	out := USCListed{Secrets: make([]USCEntry, 0, len(found.Entries)), Omitted: found.Omitted, Truncated: found.Truncated}
	for _, e := range found.Entries {
		kind := "kv-v" + strconv.Itoa(e.KVVersion)
		if e.Folder {
			kind = "folder"
		}
		out.Secrets = append(out.Secrets, USCEntry{SecretID: e.ID, Name: e.ID, Type: kind, Status: true})
	}
	return answer{status: http.StatusOK, body: out}, nil
}

func (s *server) uscGet(c *call) (answer, error) {
	var in USCGet
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	version, err := versionOf(in.Version)
	if err != nil {
		return answer{}, s.refuse(c, gate.Invalid, "version-id: not a number above 0")
	}
	got, err := s.cfg.USC.Get(c.Context(), c.usc(), usc.GetInput{Connector: in.Name, SecretID: in.SecretID, Version: version})
	if err != nil {
		return answer{}, err
	}
	out := USCSecret{
		Name:     got.Name,
		Value:    base64.StdEncoding.EncodeToString([]byte(got.Value.Reveal())),
		Metadata: USCMetadata{Version: got.Version, Custom: got.Custom, Created: timeOf(got.Created), Updated: timeOf(got.Created)},
	}
	return answer{status: http.StatusOK, body: out}, nil
}

func (s *server) uscCreate(c *call) (answer, error) {
	var in USCCreate
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	value, err := ParseValue(in.Value)
	if err != nil {
		return answer{}, s.refuse(c, gate.Invalid, err.Error())
	}
	w, err := s.cfg.USC.Create(c.Context(), c.usc(), usc.WriteInput{Connector: in.Name, SecretID: in.SecretName, Value: value})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: USCWritten{SecretID: w.ID, Version: versionID(w.Version)}}, nil
}

func (s *server) uscUpdate(c *call) (answer, error) {
	var in USCUpdate
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	value, err := ParseValue(in.Value)
	if err != nil {
		return answer{}, s.refuse(c, gate.Invalid, err.Error())
	}
	w, err := s.cfg.USC.Update(c.Context(), c.usc(), usc.WriteInput{Connector: in.Name, SecretID: in.SecretID, Value: value, Expect: in.Expect})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: USCWritten{Name: w.Name, SecretID: w.ID, Version: versionID(w.Version)}}, nil
}

func (s *server) uscDelete(c *call) (answer, error) {
	var in USCDelete
	if err := s.decode(c, &in); err != nil {
		return answer{}, err
	}
	w, err := s.cfg.USC.Delete(c.Context(), c.usc(), usc.DeleteInput{Connector: in.Name, SecretID: in.SecretID, AllVersions: in.AllVersions})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: USCWritten{Name: w.Name}}, nil
}

func versionOf(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, strconv.ErrSyntax
	}
	return int64(n), nil
}

func versionID(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
