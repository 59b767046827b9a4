package api

import "context"

// Drift is one way in which a Vault differs from what is declared: missing, type, kv-version, ungoverned, or unreachable
// where the Vault could not be asked.
type Drift struct {
	Target     string `json:"target"`
	Mount      string `json:"mount,omitempty"` // as declared
	RemotePath string `json:"remote_path,omitempty"`
	Drift      string `json:"drift"`
	Detail     string `json:"detail"`
}

// Discovered is what a Vault has and nobody has declared.
type Discovered struct {
	Target string            `json:"target"`
	Mounts []DiscoveredMount `json:"mounts"`
	HCL    string            `json:"hcl"` // declares all of it
}

// DiscoveredMount is one secrets engine.
type DiscoveredMount struct {
	Path        string `json:"path"` // proposed
	RemotePath  string `json:"remote_path"`
	Engine      string `json:"engine"`
	KVVersion   int    `json:"kv_version"`
	Description string `json:"description,omitempty"`
}

// Drift compares the declared mounts with those that the Vaults have.
func (c *Client) Drift(ctx context.Context) ([]Drift, error) {
	out, err := get[struct {
		Drift []Drift `json:"drift"`
	}](ctx, c, "drift", nil)
	return out.Drift, err
}

// Discover proposes declarations for what a Vault has.
func (c *Client) Discover(ctx context.Context, target string) (Discovered, error) {
	return get[Discovered](ctx, c, "discover/"+target, nil)
}
