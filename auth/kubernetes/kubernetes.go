// Package kubernetes is the auth method of workloads in a Kubernetes cluster, which present the token of their service account.
//
// It serves the paths of Vault's method. A token is shown to the cluster's TokenReview API, which knows whether its service
// account and pod are still there; or, with validation = "offline", it is checked with the cluster's keys alone, which needs
// nothing of the cluster at the login and can't know that.
package kubernetes

import (
	"context"
	"net/http"
	"sync"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is kubernetes. It is safe for concurrent use.
type Method struct {
	routes auth.Routes

	mu    sync.Mutex
	cache map[string]*cluster // by the accessor of a mount
}

// New makes the method.
func New() *Method {
	k := &Method{cache: map[string]*cluster{}}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	k.routes = auth.Routes{
		{Op: read, Path: "config", Serve: k.readConfig},
		{Op: update, Path: "config", Serve: k.writeConfig},
		{Op: list, Path: "role", Serve: k.listRoles},
		{Op: read, Path: "role/{name}", Serve: k.readRole},
		{Op: update, Path: "role/{name}", Serve: k.writeRole},
		{Op: remove, Path: "role/{name}", Serve: k.deleteRole},
	}
	return k
}

// Greets is true of the login alone. See auth.Method.
func (*Method) Greets(rest string) bool { return rest == "login" }

// Serve answers everything but logins. See auth.Method.
func (k *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return k.routes.Serve(ctx, c)
}

// Exists tells whether a role is there. See auth.Exister.
func (*Method) Exists(ctx context.Context, m *auth.Mount, rest string) (exists, known bool, err error) {
	args, ok := auth.Match("role/{name}", rest)
	if !ok {
		return false, false, nil
	}
	r, err := loadRole(ctx, m, args["name"])
	return r != nil, err == nil, err
}

// clusterOf finds the cluster of a mount's configuration as it stands.
func (k *Method) clusterOf(m *auth.Mount, d *configDoc) (*cluster, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cache[m.Accessor]
	if c != nil && c.version == d.Version() {
		return c, nil
	}
	client, err := d.Value.client()
	if err != nil {
		return nil, err
	}
	c = &cluster{config: d.Value, version: d.Version(), client: client}
	k.cache[m.Accessor] = c
	return c, nil
}

// cluster is how a cluster is reached, and what is known of its keys.
type cluster struct {
	config  config
	version int64
	client  *http.Client

	keys keys
}
