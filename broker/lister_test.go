package broker_test

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/bailiff-secrets/bailiff/broker"
)

// nameKey is the key of names in tests.
var nameKey = []byte(strings.Repeat("k", 32))

// open is a target that can be listed, probed and quarantined.
type openTarget struct {
	*target

	mu       sync.Mutex
	strange  []broker.Found                         // what others have made there
	shut     map[string]bool                        // quarantined
	comments map[string]string                      // principal → lease
	probe    func(ctx context.Context, n int) error // n: 1, 2, 3, …; nil: the credential works where it is there
	probes   int
	listed   func(lists int) // called before a list
	lists    int
}

func newOpenTarget(x *target) *openTarget {
	return &openTarget{target: x, shut: make(map[string]bool), comments: make(map[string]string)}
}

func (o *openTarget) Create(ctx context.Context, s broker.Spec) (*broker.Credential, error) {
	o.mu.Lock()
	o.comments[s.Principal] = s.LeaseID
	o.mu.Unlock()
	return o.target.Create(ctx, s)
}

func (o *openTarget) Probe(ctx context.Context, _ broker.Spec, c *broker.Credential) error {
	o.mu.Lock()
	o.probes++
	n, probe := o.probes, o.probe
	o.mu.Unlock()
	if probe != nil {
		return probe(ctx, n)
	}
	if !o.has(c.Fields["username"].Reveal()) {
		return refusedBy()
	}
	return nil
}

func refusedBy() error {
	return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: "the target refused it"}
}

func (o *openTarget) List(_ context.Context, yield func(broker.Found) error) error {
	o.mu.Lock()
	o.lists++
	n, listed := o.lists, o.listed
	o.mu.Unlock()
	if listed != nil {
		listed(n)
	}
	o.target.mu.Lock()
	var names []string
	for name := range o.alive {
		names = append(names, name)
	}
	o.target.mu.Unlock()
	o.mu.Lock()
	found := slices.Clone(o.strange)
	for _, name := range names {
		found = append(found, broker.Found{Name: name, LeaseID: o.comments[name], Enabled: !o.shut[name]})
	}
	o.mu.Unlock()
	for _, f := range found {
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}

func (o *openTarget) Quarantine(_ context.Context, name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut[name] = true
	return nil
}

// openCatalog has the target in the place of the one of the name.
type openCatalog struct {
	broker.Catalog
	name string
	x    broker.Producer
}

func (c openCatalog) Producer(name string) (broker.Producer, string, error) {
	if name == c.name {
		return c.x, "model", nil
	}
	return c.Catalog.Producer(name)
}

// open makes "good" a target that can be listed.
func (w *world) open() *openTarget {
	o := newOpenTarget(w.good)
	w.cfg.NameKey = nameKey
	w.cfg.Catalog = openCatalog{w.catalog, "good", o}
	return o
}
