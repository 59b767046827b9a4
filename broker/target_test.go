package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// canary stands for what must not be seen.
const canary = "canary-77aa"

// target is a model of an outside system and its producer.
type target struct {
	mu      sync.Mutex
	alive   map[string]time.Time                             // principal → the target's own end
	create  func(ctx context.Context, s broker.Spec) error   // before it is made; nil: nothing
	revoke  func(ctx context.Context, ref broker.Ref) error  // before it is ended; nil: nothing
	renew   func(ctx context.Context, until time.Time) error // before it is renewed; nil: nothing
	creates int
	revokes int
	refs    []broker.Ref
}

func newTarget() *target { return &target{alive: make(map[string]time.Time)} }

func (x *target) set(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
}

func (x *target) Create(ctx context.Context, s broker.Spec) (*broker.Credential, error) {
	x.mu.Lock()
	before := x.create
	x.creates++
	x.mu.Unlock()
	if before != nil {
		if err := before(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return x.make(s)
}

// make makes the credential, as the target does when it has got the statement at last.
func (x *target) make(s broker.Spec) (*broker.Credential, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if time.Now().After(s.Deadline) {
		return nil, errors.New("past the deadline")
	}
	x.alive[s.Principal] = s.ExpiresAt
	return &broker.Credential{Fields: map[string]secret.Value{
		"username": secret.New(s.Principal), "password": secret.New("pw-" + s.Principal),
	}}, nil
}

func (x *target) Revoke(ctx context.Context, ref broker.Ref) error {
	x.mu.Lock()
	before := x.revoke
	x.revokes++
	x.refs = append(x.refs, ref)
	x.mu.Unlock()
	if before != nil {
		if err := before(ctx, ref); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	x.set(func() { delete(x.alive, ref.Principal) })
	return nil
}

func (x *target) Renew(ctx context.Context, ref broker.Ref, until time.Time) error {
	x.mu.Lock()
	before := x.renew
	x.mu.Unlock()
	if before != nil {
		if err := before(ctx, until); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	end, there := x.alive[ref.Principal]
	if !there {
		return &broker.RevokeError{Cause: broker.Gone, Msg: "it is not there"}
	}
	if until.After(end) {
		x.alive[ref.Principal] = until
	}
	return nil
}

func (x *target) Snapshot(role broker.Role) ([]byte, error) {
	return []byte("kept of " + role.Name), nil
}

func (x *target) has(principal string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, there := x.alive[principal]
	return there
}

func (x *target) end(principal string) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.alive[principal]
}

func (x *target) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.alive)
}

// hang waits until the caller gives up.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// unreachable is what a dead target's producer says.
func unreachable() error {
	return &broker.RevokeError{Cause: broker.Unreachable, Msg: "connection refused"}
}

// catalog is a broker.Catalog. Its maps are set before it is used, or through set.
type catalog struct {
	mu      sync.Mutex
	roles   map[string]broker.Role
	targets map[string]*target
}

func (c *catalog) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *catalog) Role(mount, name string) (broker.Role, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.roles[mount+name]
	return r, ok
}

func (c *catalog) Roles(mount string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, r := range c.roles {
		if r.Mount == mount {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (c *catalog) Producer(name string) (broker.Producer, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.targets[name]
	if !ok {
		return nil, "", fmt.Errorf("no target %q", name)
	}
	return x, "model", nil
}

// trail is a gate.Recorder.
type trail struct {
	mu      sync.Mutex
	err     error
	records []audit.Record
}

func (x *trail) Append(_ context.Context, records ...*audit.Record) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return x.err
	}
	for _, r := range records {
		x.records = append(x.records, *r)
	}
	return nil
}

// of lists the events of a lease.
func (x *trail) of(leaseID string) []audit.Record {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []audit.Record
	for _, r := range x.records {
		if r.LeaseID == leaseID {
			out = append(out, r)
		}
	}
	return out
}
