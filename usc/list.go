package usc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
)

// ListInput says what to list.
type ListInput struct {
	Connector string
	Path      string // a folder, in the form of a secret id; empty: everything
	Flat      bool   // only the folder itself: folders in it are entries, and are not looked into
}

// Entry is one secret, or with Flat one folder, of a List. A KV v2 secret whose latest version is deleted is listed as
// well, as in Vault.
type Entry struct {
	ID        string // of a folder with a slash at the end
	Folder    bool
	KVVersion int
}

// Listing is what a List found.
type Listing struct {
	Entries   []Entry
	Omitted   int  // folders that the caller may not list, and names that can't be asked for because they aren't canonical
	Truncated bool // a limit was reached: there may be more
}

// folder is one to look into.
type folder struct {
	mount Mount
	dir   string // below the mount, without slashes at its ends
	depth int
}

func (f folder) path() string {
	p := f.mount.Path
	if f.mount.KVVersion == 2 {
		p += "/metadata"
	}
	if f.dir != "" {
		p += "/" + f.dir
	}
	return p
}

// walk is one List on its way.
type walk struct {
	s    *Service
	call Call
	flat bool
	out  Listing
}

// List lists the secrets below a folder. Every folder is its own request: judged, recorded, and left out where the caller
// may not list it. Not being allowed to list where it begins is an error.
func (s *Service) List(ctx context.Context, call Call, in ListInput) (*Listing, error) {
	tops, err := s.tops(ctx, call, in)
	if err != nil {
		return nil, err
	}
	w := &walk{s: s, call: call, flat: in.Flat}
	if in.Flat && len(tops) > 1 {
		for _, f := range tops {
			w.add(Entry{ID: f.mount.Prefix, Folder: true, KVVersion: f.mount.KVVersion})
		}
		return &w.out, nil
	}
	if err := w.run(ctx, tops); err != nil {
		return nil, err
	}
	return &w.out, nil
}

// tops finds the folders where a List begins: one, or one a mount.
func (s *Service) tops(ctx context.Context, call Call, in ListInput) ([]folder, error) {
	dir := strings.TrimSuffix(in.Path, "/")
	if in.Path != "" {
		if err := vpath.Check(dir); err != nil {
			return nil, s.refuse(ctx, call, policy.List, in.Path, gate.Invalid, "path: "+err.Error())
		}
	}
	c, err := s.connector(ctx, call, policy.List, in.Connector, dir)
	if err != nil {
		return nil, err
	}
	var tops []folder
	for _, m := range c.Mounts {
		var f folder
		switch {
		case dir == "" || strings.HasPrefix(m.Prefix, dir+"/"):
			f = folder{mount: m}
		case strings.HasPrefix(dir+"/", m.Prefix):
			f = folder{mount: m, dir: dir[len(m.Prefix):]}
		default:
			continue
		}
		if m.KVVersion != 1 && m.KVVersion != 2 {
			return nil, s.refuse(ctx, call, policy.List, in.Path, gate.Unavailable, "the KV version of mount "+m.Path+" is not known yet")
		}
		tops = append(tops, f)
	}
	if len(tops) == 0 {
		return nil, withHint(s.refuse(ctx, call, policy.List, in.Connector+"/"+dir, gate.NotFound, "no secret engine of this connector holds that path"),
			"secret ids of this connector begin with "+prefixes(c.Mounts))
	}
	return tops, nil
}

// run looks into tops and everything below them.
func (w *walk) run(ctx context.Context, tops []folder) error {
	todo := slices.Clone(tops)
	denied := 0
	for looked := 0; len(todo) > 0; looked++ {
		if looked == w.s.cfg.MaxFolders || w.full() {
			w.out.Truncated = true
			break
		}
		f := todo[0]
		todo = todo[1:]
		below, err := w.look(ctx, f)
		if err != nil && f.depth == 0 && refusal(err) {
			denied++
		}
		if err != nil && (!refusal(err) || denied == len(tops)) {
			return err
		}
		if err != nil {
			w.out.Omitted++
		}
		todo = append(todo, below...)
	}
	slices.SortFunc(w.out.Entries, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

// look lists one folder: secrets go to the listing, folders in it are returned.
func (w *walk) look(ctx context.Context, f folder) ([]folder, error) {
	keys, err := w.keys(ctx, f)
	if err != nil {
		return nil, err
	}
	var below []folder
	for _, key := range keys {
		name, isFolder := strings.CutSuffix(key, "/")
		path := name
		if f.dir != "" {
			path = f.dir + "/" + name
		}
		switch {
		case vpath.Check(path) != nil:
			w.out.Omitted++
		case isFolder && !w.flat && f.depth >= w.s.cfg.MaxDepth:
			w.out.Truncated = true
		case isFolder && !w.flat:
			below = append(below, folder{mount: f.mount, dir: path, depth: f.depth + 1})
		case isFolder:
			w.add(Entry{ID: f.mount.Prefix + path + "/", Folder: true, KVVersion: f.mount.KVVersion})
		default:
			w.add(Entry{ID: f.mount.Prefix + path, KVVersion: f.mount.KVVersion})
		}
	}
	return below, nil
}

// keys asks for the names in a folder. One that isn't there holds none.
func (w *walk) keys(ctx context.Context, f folder) ([]string, error) {
	a, err := w.s.ask(ctx, w.call, policy.List, f.path(), nil, nil)
	if err != nil || a.missing {
		return nil, err
	}
	var d struct {
		Keys []string `json:"keys"`
	}
	if err := json.Unmarshal(a.data, &d); err != nil {
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the target's answer is not a list", Err: fmt.Errorf("decode keys: %w", err)}
	}
	return d.Keys, nil
}

func (w *walk) add(e Entry) {
	if w.full() {
		w.out.Truncated = true
		return
	}
	w.out.Entries = append(w.out.Entries, e)
}

func (w *walk) full() bool { return len(w.out.Entries) >= w.s.cfg.MaxSecrets }

// refusal tells a no to one path, which doesn't end a List, from a failure, which does.
func refusal(err error) bool {
	var e *gate.Error
	return errors.Is(err, gate.ErrDenied) || errors.As(err, &e) && e.Kind == gate.Forbidden
}
