package gate

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// Mount is a path prefix and the backend that serves it.
type Mount struct {
	Path        string // "secret/": always with the trailing slash
	Type        string // as Vault names engines: kv, database, transit, …; system and token for our own
	Target      string // the target behind, where there is one
	Description string
	Options     map[string]string // {"version":"2"} for KV v2
	Accessor    string
	UUID        string
	DefaultTTL  time.Duration
	MaxTTL      time.Duration
	MaxLeases   int            // open at a time; 0: no limit
	IssueRate   string         // "10/s"; empty: no limit
	Outlive     bool           // leases stay when the token that they were issued to ends
	Internal    bool           // sys/, auth/token/: not shown among secrets engines
	Config      map[string]any // what else Vault shows of its configuration; may be nil
	Backend     Backend
}

// KVVersion is 1 or 2 for a KV mount and 0 for any other.
func (m *Mount) KVVersion() int {
	switch {
	case m.Type != "kv" && m.Type != "generic":
		return 0
	case m.Options["version"] == "2":
		return 2
	default:
		return 1
	}
}

// Mounts is an immutable table of mounts.
type Mounts struct {
	byPath map[string]*Mount
	all    []*Mount
}

// NewMounts builds a table. No mount may lie inside another.
func NewMounts(list []*Mount) (*Mounts, error) {
	m := &Mounts{byPath: make(map[string]*Mount, len(list)), all: append([]*Mount(nil), list...)}
	sort.Slice(m.all, func(i, j int) bool { return m.all[i].Path < m.all[j].Path })
	for i, x := range m.all {
		if x.Path == "" || strings.HasPrefix(x.Path, "/") || !strings.HasSuffix(x.Path, "/") {
			return nil, fmt.Errorf("mount path %q must end in a slash and not begin with one", x.Path)
		}
		if i > 0 && strings.HasPrefix(x.Path, m.all[i-1].Path) {
			return nil, fmt.Errorf("mount %q lies inside mount %q", x.Path, m.all[i-1].Path)
		}
		m.byPath[x.Path] = x
	}
	return m, nil
}

// Route finds the mount that serves path, and the rest of the path below it.
func (m *Mounts) Route(path string) (mount *Mount, rest string, ok bool) {
	for i := 0; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if x, ok := m.byPath[path[:i+1]]; ok {
			return x, path[i+1:], true
		}
	}
	if x, ok := m.byPath[path+"/"]; ok {
		return x, "", true
	}
	return nil, "", false
}

// All lists the mounts by path. The caller must not change it.
func (m *Mounts) All() []*Mount { return m.all }
