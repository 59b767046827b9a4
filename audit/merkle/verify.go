package merkle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiff-secrets/bailiff/audit"
)

// Noted is a checkpoint from outside of the log's reach: a witness's, a sink's, an auditor's.
type Noted struct {
	Name   string // where it is from
	Signed []byte
}

// VerifyConfig says what a log is compared with.
type VerifyConfig struct {
	Dir   string        // of the log
	Tree  string        // of its tree; with the checkpoint in it
	Key   note.Verifier // the log's public key
	Known *audit.Head   // a head that was noted elsewhere; may be nil
	Noted []Noted       // checkpoints that were noted elsewhere
}

// Verify reads a whole log, which need not be closed, and says what it proved with no more than the public key, what it could
// not, and the first thing that is wrong. The error is one of reading. It changes nothing.
func Verify(cfg VerifyConfig) (audit.Report, error) {
	v, err := newVerifier(cfg)
	if err != nil {
		return audit.Report{Dir: cfg.Dir}, err
	}
	r, err := audit.VerifyWith(cfg.Dir, audit.Options{Known: cfg.Known, Anchored: true, Each: v.record})
	if err != nil {
		return r, err
	}
	v.conclude(&r)
	return r, nil
}

// stop is a checkpoint on the way through a log.
type stop struct {
	name string
	Checkpoint
	met bool
}

type verifier struct {
	cfg   VerifyConfig
	stops []*stop // by size
	edge  *edge
	lost  error // why there is no tree over what comes before the first record
	wrong string
}

func newVerifier(cfg VerifyConfig) (*verifier, error) {
	v := &verifier{cfg: cfg}
	noted := cfg.Noted
	signed, err := os.ReadFile(filepath.Join(cfg.Tree, checkpointName))
	switch {
	case err == nil:
		noted = append([]Noted{{"the log's own checkpoint", signed}}, noted...)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the checkpoint of the audit log: %w", err)
	}
	for _, n := range noted {
		c, err := ParseCheckpoint(n.Signed, cfg.Key)
		if err != nil {
			v.wrong = fmt.Sprintf("%s: %v", n.Name, err)
			continue
		}
		v.stops = append(v.stops, &stop{name: n.Name, Checkpoint: c})
	}
	slices.SortStableFunc(v.stops, func(a, b *stop) int { return int(a.Size - b.Size) })
	return v, nil
}

// record takes in one record, oldest first.
func (v *verifier) record(r audit.Entry) error {
	if v.edge == nil && v.lost == nil {
		before := tiles{v.cfg.Tree}
		v.edge, v.lost = before.edgeAt(int64(r.Seq) - 1)
	}
	if v.edge == nil {
		return nil
	}
	if err := v.edge.add(tlog.RecordHash(r.Bytes), func(int, int64, []tlog.Hash) error { return nil }); err != nil {
		return err
	}
	for _, s := range v.stops {
		if s.Size != v.edge.size || v.wrong != "" {
			continue
		}
		s.met = v.edge.root() == s.Root
		if !s.met {
			v.wrong = fmt.Sprintf("%s was signed for %d records, and these are not they: some were changed, put in, taken out or written anew", s.name, s.Size)
		}
	}
	return nil
}

// conclude adds to a report what the signatures say.
func (v *verifier) conclude(r *audit.Report) {
	var last *stop
	for _, s := range v.stops {
		switch {
		case s.met:
			last = s
			r.Proved = append(r.Proved, fmt.Sprintf("%s: records up to %d are those that %s signed for", s.name, s.Size, v.cfg.Key.Name()))
		case v.wrong == "" && r.Problem == "" && s.Size > int64(r.Last):
			v.wrong = fmt.Sprintf("%s was signed for %d records, and the log ends with record %d: records were cut off its end", s.name, s.Size, r.Last)
		case s.Size > 0 && s.Size < int64(r.First):
			r.Unproved = append(r.Unproved, fmt.Sprintf("%s: the records up to %d are no longer here", s.name, s.Size))
		}
	}
	if r.Problem == "" {
		r.Problem = v.wrong
	}
	if v.lost != nil {
		r.Unproved = append(r.Unproved, fmt.Sprintf("any signature: the tree over the records before %d is not here (%v)", r.First, v.lost))
	}
	switch {
	case len(v.stops) == 0:
		r.Unproved = append(r.Unproved, "any signature: there is no checkpoint")
	case last != nil && last.Size < int64(r.Last):
		r.Unproved = append(r.Unproved, fmt.Sprintf("that no records behind %d were cut off or written anew: nothing was signed for them", last.Size))
	}
	if len(v.cfg.Noted) == 0 && v.cfg.Known == nil {
		r.Unproved = append(r.Unproved, "that the log was not set back, as a whole, to an older state of itself: compare with a checkpoint that was noted elsewhere")
	}
}
