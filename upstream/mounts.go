package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// MountInfo is a secrets engine as the target describes it.
type MountInfo struct {
	Path        string // "secret/": with the trailing slash
	Type        string // kv, database, transit, …
	Description string
	Options     map[string]string // {"version":"2"} for KV v2
	Accessor    string
	UUID        string
	Local       bool
	SealWrap    bool
	DefaultTTL  time.Duration // 0: the target's own default
	MaxTTL      time.Duration
}

type mountAnswer struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Accessor    string            `json:"accessor"`
	UUID        string            `json:"uuid"`
	Local       bool              `json:"local"`
	SealWrap    bool              `json:"seal_wrap"`
	Config      struct {
		DefaultTTL int64 `json:"default_lease_ttl"`
		MaxTTL     int64 `json:"max_lease_ttl"`
	} `json:"config"`
}

// Mounts lists the secrets engines of the target by path. Where Bailiff's login may not read sys/mounts there, these are
// the ones in which it may do anything at all. Errors are ctx's own or *gate.Error.
func (v *Vault) Mounts(ctx context.Context) ([]MountInfo, error) {
	var all struct {
		Data map[string]mountAnswer `json:"data"`
	}
	err := v.ask(ctx, &call{method: http.MethodGet, safe: true, path: "sys/mounts"}, &all)
	var no *refusal
	if errors.As(err, &no) && no.code == http.StatusForbidden {
		var own struct {
			Data struct {
				Secret map[string]mountAnswer `json:"secret"`
			} `json:"data"`
		}
		err = v.ask(ctx, &call{method: http.MethodGet, safe: true, path: "sys/internal/ui/mounts"}, &own)
		all.Data = own.Data.Secret
	}
	if err != nil {
		return nil, err
	}
	out := make([]MountInfo, 0, len(all.Data))
	for path, m := range all.Data {
		out = append(out, MountInfo{
			Path: trimSlashes(path) + "/", Type: m.Type, Description: m.Description, Options: m.Options,
			Accessor: m.Accessor, UUID: m.UUID, Local: m.Local, SealWrap: m.SealWrap,
			DefaultTTL: seconds(m.Config.DefaultTTL), MaxTTL: seconds(m.Config.MaxTTL),
		})
	}
	slices.SortFunc(out, func(a, b MountInfo) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Health is nil where the target is initialised, unsealed and serving; it needs no login. A standby that forwards counts
// as serving. Errors are ctx's own or *gate.Error.
func (v *Vault) Health(ctx context.Context) error {
	k := &call{method: http.MethodGet, safe: true, path: "sys/health", query: "perfstandbyok=true&standbyok=true"}
	var out struct {
		Initialized bool `json:"initialized"`
		Sealed      bool `json:"sealed"`
	}
	if err := v.client.ask(ctx, k, &out); err != nil {
		var no *refusal
		if errors.As(err, &no) && no.code == http.StatusNotImplemented {
			return nonsense(v.name, "is not initialised")
		}
		return err
	}
	if !out.Initialized || out.Sealed {
		return nonsense(v.name, "is sealed or not initialised")
	}
	return nil
}

// ask sends a request of our own through the same login and limits as everybody's.
func (v *Vault) ask(ctx context.Context, k *call, out any) error {
	a, err := v.send(ctx, k)
	if err != nil {
		return err
	}
	return v.client.decode(a, out)
}
