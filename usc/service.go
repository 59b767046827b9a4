package usc

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Config says what a Service works with. Zero values of the limits stand for their defaults.
type Config struct {
	Gate       gate.Doer
	Connectors func(name string) (Connector, bool) // safe for concurrent use

	MaxAnswer  int64 // bytes of one answer of a target; default 8 MiB
	MaxFolders int   // folders that one List looks into; default 1,000
	MaxSecrets int   // secrets that one List returns; default 10,000
	MaxDepth   int   // how deep List goes below where it began; default 32
}

// Connector is a name for KV mounts whose secrets stay where they are.
type Connector struct {
	Name        string
	Target      string
	Description string
	Mounts      []Mount
}

// Mount is one KV mount of a connector.
type Mount struct {
	Path      string // as it is governed, without slashes at its ends: "secret"
	Prefix    string // of its secret ids: "secret/" where a connector stands for a target, "" where it stands for one mount
	KVVersion int    // 1 or 2
}

// Call says who asks. RequestID may be empty; otherwise all records of the call bear it.
type Call struct {
	Token      secret.Value
	ClientAddr netip.Addr
	ProxyAddr  netip.Addr // see gate.Request
	UserAgent  string
	RequestID  string
}

// Service turns USC calls into gate requests. It is safe for concurrent use and holds no state of its own.
// Its methods return the gate's errors: identity.ErrUnauthenticated, gate.ErrDenied, gate.ErrNoRecord, *gate.Error.
type Service struct {
	cfg Config
}

// New makes a Service.
func New(cfg Config) *Service {
	if cfg.MaxAnswer == 0 {
		cfg.MaxAnswer = 8 << 20
	}
	if cfg.MaxFolders == 0 {
		cfg.MaxFolders = 1000
	}
	if cfg.MaxSecrets == 0 {
		cfg.MaxSecrets = 10_000
	}
	if cfg.MaxDepth == 0 {
		cfg.MaxDepth = 32
	}
	return &Service{cfg: cfg}
}

// place is where a secret lies.
type place struct {
	id    string
	mount Mount
	path  string // below the mount
}

// value is the API path of the secret's value.
func (p place) value() string {
	if p.mount.KVVersion == 2 {
		return p.mount.Path + "/data/" + p.path
	}
	return p.mount.Path + "/" + p.path
}

// metadata is the API path of the secret and all its versions, on KV v2.
func (p place) metadata() string { return p.mount.Path + "/metadata/" + p.path }

// longest is the longest of the paths that a call may come to.
func (p place) longest() string { return p.mount.Path + "/metadata/" + p.path }

// locate finds the place of a secret id. A failure is already recorded.
func (s *Service) locate(ctx context.Context, call Call, op policy.Operation, connector, id string) (place, error) {
	if err := vpath.Check(id); err != nil {
		return place{}, s.refuse(ctx, call, op, id, gate.Invalid, "secret id: "+err.Error())
	}
	c, err := s.connector(ctx, call, op, connector, id)
	if err != nil {
		return place{}, err
	}
	i := slices.IndexFunc(c.Mounts, func(m Mount) bool { return strings.HasPrefix(id, m.Prefix) }) // no mount lies in another
	if i < 0 {
		return place{}, withHint(s.refuse(ctx, call, op, connector+"/"+id, gate.NotFound, "no secret engine of this connector holds that secret id"),
			"secret ids of this connector begin with "+prefixes(c.Mounts))
	}
	m := c.Mounts[i]
	if m.KVVersion != 1 && m.KVVersion != 2 {
		return place{}, s.refuse(ctx, call, op, id, gate.Unavailable, "the KV version of mount "+m.Path+" is not known yet")
	}
	at := place{id: id, mount: m, path: id[len(m.Prefix):]}
	if err := vpath.Check(at.longest()); err != nil {
		return place{}, s.refuse(ctx, call, op, id, gate.Invalid, "secret id: "+err.Error())
	}
	return at, nil
}

// connector finds a connector by its name.
func (s *Service) connector(ctx context.Context, call Call, op policy.Operation, name, id string) (Connector, error) {
	c, ok := s.cfg.Connectors(name)
	if !ok {
		return Connector{}, withHint(s.refuse(ctx, call, op, name+"/"+id, gate.NotFound, "no such connector"),
			"bailiff connector list shows the connectors there are")
	}
	return c, nil
}

// refuse records that a call can't be judged, and returns what to answer. A caller who isn't known gets no other answer
// to NotFound and Unavailable than to a name that exists: the gate sees to it.
func (s *Service) refuse(ctx context.Context, call Call, op policy.Operation, path string, kind gate.Kind, why string) error {
	return s.cfg.Gate.Refuse(ctx, s.request(call, op, path), kind, why)
}

func (s *Service) request(call Call, op policy.Operation, path string) *gate.Request {
	return &gate.Request{
		ID:         call.RequestID,
		Via:        gate.USC,
		Token:      call.Token,
		Op:         op,
		Path:       path,
		ClientAddr: call.ClientAddr, ProxyAddr: call.ProxyAddr,
		UserAgent: call.UserAgent,
	}
}

// withHint adds advice to an error that has none.
func withHint(err error, hint string) error {
	var e *gate.Error
	if errors.As(err, &e) && e.Hint == "" {
		with := *e
		with.Hint = hint
		return &with
	}
	return err
}

func prefixes(mounts []Mount) string {
	list := make([]string, 0, len(mounts))
	for _, m := range mounts {
		list = append(list, m.Prefix)
	}
	if len(list) == 0 {
		return "nothing: it has no KV mounts now"
	}
	return strings.Join(list, ", ")
}
