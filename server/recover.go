package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// metaStore is the part of a store that keeps small values.
type metaStore interface {
	onceStore
	SwapMeta(ctx context.Context, key string, old, value []byte) (bool, error)
}

const (
	metaHold  = "hold"        // the broker.Hold that lasts; "{}" when it was confirmed
	metaEpoch = "epoch/"      // + node: how often it has started
	metaHead  = "audit-head/" // + node: how far its trail was, and when

	noteEvery = time.Second
	// lateNote is how long after a note the trail may show what happened to leases that are in the store. A process that was
	// killed was so within a second of its last note.
	lateNote = 10 * time.Second
	// beat is how often the head is noted although it is where it was, in a store that others may put back meanwhile.
	beat = 5 * time.Second
	// checkEvery is how long it is believed that the store stands where it stood. Nobody puts one back in that time.
	checkEvery = 100 * time.Millisecond
)

// recovery notices that the store has gone back in time, by what is kept outside it, and holds revocations then:
//
//   - The count of starts stands in the store and in a file beside the trail. Where the file's is larger, the store is
//     from before a start.
//   - The store knows how far the trail was a second ago. Where the trail goes on about leases for much longer, or about
//     one that the store doesn't know, the store is from before that.
//
// Where the trail and its file went back too, nothing can be noticed. A store that several servers share may be put back
// under those that run: each then looks, before it takes up work, whether its start and its last note are still there.
type recovery struct {
	*broker.Broker
	store  metaStore
	trail  *audit.Log
	node   string
	file   string // of the epoch
	logger *slog.Logger

	shared  bool   // the store may go back while this process runs
	trouble string // by the loop alone

	mu      sync.Mutex
	epoch   uint64
	noted   uint64
	notedAt time.Time // zero: nothing is noted yet
	checked time.Time
}

// noted is how far a trail was.
type noted struct {
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
}

// newRecovery compares, holds if it must, and begins a new epoch. It must come before the broker runs.
func newRecovery(ctx context.Context, leases *broker.Broker, store metaStore, trail *audit.Log, node, auditDir string, logger *slog.Logger) (*recovery, error) {
	_, shared := store.(changer)
	r := &recovery{shared: shared, Broker: leases, store: store, trail: trail, node: node, file: filepath.Clean(auditDir) + ".epoch", logger: logger}
	inStore, err := r.storedEpoch(ctx)
	if err != nil {
		return nil, err
	}
	inFile, err := readEpoch(r.file)
	if err != nil {
		return nil, err
	}
	if err := r.judge(ctx, inStore, inFile); err != nil {
		return nil, fmt.Errorf("compare the store with the trail: %w", err)
	}
	// The store first: killed in between, the file's number is the smaller one, which proves nothing.
	r.epoch = max(inStore, inFile) + 1
	next := strconv.FormatUint(r.epoch, 10)
	if err := r.put(ctx, metaEpoch+node, []byte(next)); err != nil {
		return nil, fmt.Errorf("note the start in the store: %w", err)
	}
	if err := writeDurably(r.file, []byte(next+"\n")); err != nil {
		return nil, fmt.Errorf("note the start beside the trail: %w", err)
	}
	return r, nil
}

// judge holds where a hold lasts from before, or where the store has gone back in time.
func (r *recovery) judge(ctx context.Context, inStore, inFile uint64) error {
	h, held, err := r.storedHold(ctx)
	if err != nil {
		return err
	}
	if held {
		return r.begin(ctx, h)
	}
	why, err := r.behind(ctx)
	if inFile > inStore {
		why = fmt.Sprintf("the store is from before a start of this server: it counts %d starts, and the file beside the trail %d", inStore, inFile)
	} else if err != nil {
		return err
	}
	if why == "" {
		return nil
	}
	return r.beginNew(ctx, why)
}

// beginNew holds everything that there is, durably.
func (r *recovery) beginNew(ctx context.Context, why string) error {
	h, err := r.NewHold(ctx, why)
	if err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := r.put(ctx, metaHold, text); err != nil {
		return err
	}
	return r.begin(ctx, h)
}

func (r *recovery) begin(ctx context.Context, h broker.Hold) error {
	r.Hold(h)
	r.logger.Error("revocations are held: see bailiff recover plan", "why", h.Why, "since", h.Since)
	return r.trail.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Op: "hold", Detail: "revocations are held until bailiff recover confirm: " + h.Why,
	})
}

// check holds where a store that is shared has gone back since the last time, or where another server has found that.
func (r *recovery) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shared || time.Since(r.checked) < checkEvery {
		return nil
	}
	why, err := r.wentBack(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		if err := r.beginNew(ctx, why); err != nil {
			return err
		}
		if err := r.put(ctx, metaEpoch+r.node, []byte(strconv.FormatUint(r.epoch, 10))); err != nil {
			return err
		}
		r.noted, r.notedAt = 0, time.Time{}
	} else if _, here := r.Held(); !here {
		h, there, err := r.storedHold(ctx)
		if err == nil && there {
			err = r.begin(ctx, h)
		}
		if err != nil {
			return err
		}
	}
	r.checked = time.Now()
	return nil
}

// wentBack says why the store must be from before something that this process has written, if it is. The caller holds r.mu.
func (r *recovery) wentBack(ctx context.Context) (why string, err error) {
	epoch, err := r.storedEpoch(ctx)
	if err != nil {
		return "", err
	}
	if epoch < r.epoch {
		return fmt.Sprintf("the store was put back while this server ran: it counts %d of its %d starts", epoch, r.epoch), nil
	}
	if r.notedAt.IsZero() {
		return "", nil
	}
	n, found, err := r.storedNote(ctx)
	if err != nil {
		return "", err
	}
	if !found || n.At.Before(r.notedAt.Add(-lateNote)) {
		return fmt.Sprintf("the store was put back while this server ran: it is from %s, and was written to at %s",
			n.At.Format(time.RFC3339), r.notedAt.Format(time.RFC3339)), nil
	}
	return "", nil
}

// guardedClaims takes up work only from a store that has not gone back unnoticed.
type guardedClaims struct {
	broker.Claimer
	recovery *recovery
}

// Claim is part of broker.Claimer.
func (g *guardedClaims) Claim(ctx context.Context, by string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	if err := g.recovery.check(ctx); err != nil {
		return nil, err
	}
	return g.Claimer.Claim(ctx, by, now, until, limit)
}

// errProved ends a query.
var errProved = errors.New("proved")

// behind says why the store must be older than the trail, if it is.
func (r *recovery) behind(ctx context.Context) (why string, err error) {
	n, found, err := r.storedNote(ctx)
	if err != nil || !found {
		return "", err
	}
	known := make(map[string]bool)
	err = r.trail.Query(ctx, audit.Query{After: n.Seq, Forward: true}, func(rec *audit.Record) error {
		switch {
		case rec.LeaseID == "" || known[rec.LeaseID]:
			return nil
		case rec.Time.After(n.At.Add(lateNote)):
			why = fmt.Sprintf("the store is from %s, and the trail tells of leases until %s or later", n.At.Format(time.RFC3339), rec.Time.UTC().Format(time.RFC3339))
			return errProved
		}
		_, err := r.Lookup(ctx, rec.LeaseID)
		if errors.Is(err, broker.ErrNoLease) {
			why = fmt.Sprintf("the trail tells of lease %s, which the store does not know", rec.LeaseID)
			return errProved
		}
		known[rec.LeaseID] = true
		return err
	})
	if errors.Is(err, errProved) {
		err = nil
	}
	return why, err
}

func (r *recovery) storedNote(ctx context.Context) (n noted, found bool, err error) {
	text, found, err := r.store.Meta(ctx, metaHead+r.node)
	if err != nil || !found {
		return n, false, err
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return n, false, fmt.Errorf("the note of the trail's head can't be read: %w", err)
	}
	return n, true, nil
}

func (r *recovery) storedEpoch(ctx context.Context) (uint64, error) {
	text, found, err := r.store.Meta(ctx, metaEpoch+r.node)
	if err != nil || !found {
		return 0, err
	}
	return strconv.ParseUint(string(text), 10, 64)
}

func (r *recovery) storedHold(ctx context.Context) (h broker.Hold, held bool, err error) {
	text, found, err := r.store.Meta(ctx, metaHold)
	if err != nil || !found {
		return h, false, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, false, fmt.Errorf("the hold in the store can't be read: %w", err)
	}
	return h, !h.Since.IsZero(), nil
}

// Confirm ends the hold. Killed after the write, the next start goes on with what is due. See sys.Recovery.
func (r *recovery) Confirm(ctx context.Context, by, reason string) error {
	if err := r.put(ctx, metaHold, []byte("{}")); err != nil {
		return &gate.Error{Kind: gate.Unavailable, Msg: "the store can't be written now", Err: err}
	}
	r.logger.Info("revocations are not held any more", "by", by, "reason", reason)
	return r.Resume(ctx)
}

// Run notes every second how far the trail is, and takes over that another node was told to go on, until ctx ends.
func (r *recovery) Run(ctx context.Context) {
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.round(ctx)
		switch {
		case err == nil:
			r.trouble = ""
		case ctx.Err() == nil && err.Error() != r.trouble:
			r.trouble = err.Error()
			r.logger.Warn("the trail's head can't be noted in the store", "error", err)
		}
	}
}

func (r *recovery) round(ctx context.Context) error {
	if err := r.check(ctx); err != nil { // before a hold that the store doesn't know is taken for one that was confirmed
		return err
	}
	if _, here := r.Held(); here {
		_, there, err := r.storedHold(ctx)
		if err == nil && !there {
			err = r.Resume(ctx)
		}
		if err != nil {
			return err
		}
	}
	return r.note(ctx)
}

// note writes how far the trail is, where it went on since the last time.
func (r *recovery) note(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := noted{Seq: r.trail.Head().Seq, At: time.Now().UTC()}
	if n.Seq == r.noted && (!r.shared || n.At.Sub(r.notedAt) < beat) {
		return nil
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := r.put(ctx, metaHead+r.node, text); err != nil {
		return err
	}
	r.noted, r.notedAt = n.Seq, n.At
	return nil
}

// put keeps a value under a key, whatever is there. Each key has one writer at a time, but for confirmations, which all write
// the same.
func (r *recovery) put(ctx context.Context, key string, value []byte) error {
	for range 3 {
		old, found, err := r.store.Meta(ctx, key)
		var done bool
		switch {
		case err != nil:
			return err
		case !found:
			done, err = r.store.PutMetaOnce(ctx, key, value)
		case bytes.Equal(old, value):
			return nil
		default:
			done, err = r.store.SwapMeta(ctx, key, old, value)
		}
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%s is changed by somebody else", key)
}

func readEpoch(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds no number: without the file, the next start doesn't notice that the store went back in time", file)
	}
	return n, nil
}

// writeDurably puts a file in the place of another, whole or not at all.
func writeDurably(file string, text []byte) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil //nolint:nilerr // the file is in its place; only its durability is not sure
	}
	return errors.Join(d.Sync(), d.Close())
}
