package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

const (
	space    = "notify" // of the documents that hold cursors: "<webhook>/<node>", and "<webhook>/expiring"
	expiring = "expiring"

	page      = 256              // events that are in memory at a time, for one webhook
	idleSave  = 10 * time.Second // a cursor that moved over nothing of interest is written so often
	storeWait = 10 * time.Second
)

// worker follows the trail for one webhook as it is declared.
type worker struct {
	m      *Manager
	hook   *hook
	client *http.Client
	stop   context.CancelFunc
	done   chan struct{}

	seq     uint64 // everything up to it is done with
	saved   uint64 // as the cursor's document says
	savedAt time.Time
	version int64 // of that document
}

func (m *Manager) start(ctx context.Context, h *hook) *worker {
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{m: m, hook: h, client: newClient(h.CACert), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer cancel()
		defer w.client.CloseIdleConnections()
		w.run(ctx)
	}()
	return w
}

// run sends until ctx ends, and writes in the end how far it is.
func (w *worker) run(ctx context.Context) {
	cfg := &w.m.cfg
	trouble := ""
	for loaded := false; ; {
		var more bool
		var err error
		if !loaded {
			err = w.load(ctx)
			loaded = err == nil
		}
		if loaded {
			more, err = w.round(ctx)
		}
		switch {
		case ctx.Err() != nil:
			w.finish(context.WithoutCancel(ctx), loaded)
			return
		case err == nil:
			trouble = ""
		case err.Error() != trouble:
			trouble = err.Error()
			cfg.Logger.Error("a webhook can't follow the trail; it is tried again", "webhook", w.hook.Name, "error", err)
		}
		if more && err == nil {
			continue
		}
		sleep(ctx, cfg.Poll)
	}
}

// finish notes how far the worker is when it ends.
func (w *worker) finish(ctx context.Context, loaded bool) {
	if !loaded {
		return
	}
	if err := w.save(ctx); err != nil {
		w.m.log.Warn("how far a webhook is can't be noted; some events are sent once more", "webhook", w.hook.Name, "error", err)
	}
}

// cursor is the body of a document.
type cursor struct {
	Seq uint64 `json:"seq"`
}

func (w *worker) key() string { return w.hook.Name + "/" + w.m.cfg.Node }

// load finds where the worker goes on. A webhook without a cursor begins where the trail was when it was declared.
func (w *worker) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	d, err := w.m.cfg.Cursors.Document(ctx, space, w.key())
	switch {
	case errors.Is(err, document.ErrNotFound):
		w.seq = w.hook.from
		w.version = 0
		w.hook.health.past(w.seq)
		return w.write(ctx)
	case err != nil:
		return err
	}
	var c cursor
	if err := json.Unmarshal(d.Body, &c); err != nil {
		return fmt.Errorf("the cursor of webhook %s can't be read: %w", w.hook.Name, err)
	}
	w.seq, w.saved, w.savedAt, w.version = c.Seq, c.Seq, time.Now(), d.Version
	w.hook.health.past(w.seq)
	return nil
}

// save writes the cursor where it has moved.
func (w *worker) save(ctx context.Context) error {
	if w.seq == w.saved {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	return w.write(ctx)
}

func (w *worker) write(ctx context.Context) error {
	body, err := json.Marshal(cursor{Seq: w.seq})
	if err != nil {
		return err
	}
	c := &document.Change{Document: document.Document{Space: space, Key: w.key(), Version: w.version, Body: body}}
	if err := w.m.cfg.Cursors.WriteDocuments(ctx, c); err != nil {
		if errors.Is(err, document.ErrConflict) { // an answer that was lost, or a store that went back: what is there counts
			if d, err := w.m.cfg.Cursors.Document(ctx, space, w.key()); err == nil {
				w.version = d.Version
			}
		}
		return fmt.Errorf("note how far webhook %s is: %w", w.hook.Name, err)
	}
	w.version, w.saved, w.savedAt = c.Version, w.seq, time.Now()
	return nil
}

// errPage ends a look at the trail.
var errPage = errors.New("the page is full")

// waiting is an event of the trail that is to be sent.
type waiting struct {
	event
	seq uint64
}

// round sends what the trail has got since the last time. It reports whether there may be more.
func (w *worker) round(ctx context.Context) (more bool, err error) {
	head := w.m.cfg.Trail.Head().Seq
	if head < w.seq {
		if err := w.behindUs(ctx, head); err != nil {
			return false, err
		}
	}
	if head == w.seq {
		return false, w.save(ctx)
	}
	list, more, err := w.look(ctx, head)
	if err != nil {
		return false, err
	}
	for _, e := range list {
		w.hook.health.wait(e.Time)
		if err := w.deliver(ctx, e.event); err != nil {
			return false, err
		}
		w.m.cfg.Fault("sent") // a crash here leaves the cursor before the event: it is sent once more
		w.seq = e.seq
		w.hook.health.past(w.seq)
		if time.Since(w.savedAt) >= w.m.cfg.Save {
			if err := w.save(ctx); err != nil {
				return false, err
			}
		}
	}
	if !more {
		w.seq = head
		w.hook.health.past(w.seq)
	}
	if len(list) > 0 || time.Since(w.savedAt) >= idleSave {
		err = w.save(ctx)
	}
	return more, err
}

// look lists the webhook's events up to head, a page at most.
func (w *worker) look(ctx context.Context, head uint64) (list []waiting, more bool, err error) {
	err = w.m.cfg.Trail.Query(ctx, audit.Query{Stage: string(audit.StageEvent), After: w.seq, Before: head + 1, Forward: true}, func(r *audit.Record) error {
		e, ok := eventOf(r, &w.hook.Notify, w.m.cfg.Source)
		if !ok {
			return nil
		}
		if list = append(list, waiting{e, r.Seq}); len(list) == page {
			return errPage
		}
		return nil
	})
	if errors.Is(err, errPage) {
		return list, true, nil
	}
	return list, false, err
}

// behindUs is where the trail is shorter than it was: it was cut off, or replaced by another.
func (w *worker) behindUs(ctx context.Context, head uint64) error {
	err := w.lost(ctx, "", fmt.Sprintf("the trail ends at record %d, and webhook %s was at %d: what was between is not told", head, w.hook.Name, w.seq))
	if err != nil {
		return err
	}
	w.seq = head
	w.hook.health.past(head)
	return nil
}

// lost records and counts what is not sent any more.
func (w *worker) lost(ctx context.Context, lease, why string) error {
	w.m.log.Error("events of leases are lost", "webhook", w.hook.Name, "lease_id", lease, "why", why)
	err := w.m.cfg.Trail.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: audit.Failed, Via: string(gate.System), Node: w.m.cfg.Node, Op: "notify",
		LeaseID: lease, Detail: "lost: " + why,
	})
	if err == nil {
		w.hook.health.change(func(h *Health) { h.Lost++ })
	}
	return err
}

// deliver sends one event until it is answered or given up. An error is of the trail or ctx's.
func (w *worker) deliver(ctx context.Context, e event) error {
	body, err := e.body()
	if err != nil {
		return err
	}
	for failures, refusals := 1, 0; ; failures++ {
		err := w.try(ctx, body)
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		w.note(err)
		if err == nil {
			return nil
		}
		no, refused := errors.AsType[*refusal](err)
		if refused && no.final() {
			if refusals++; refusals >= w.m.cfg.Refusals {
				return w.lost(ctx, e.Subject, fmt.Sprintf("webhook %s refused %s %d times: %v", w.hook.Name, e.ID, refusals, err))
			}
		}
		wait := w.backoff(failures)
		if refused {
			wait = max(wait, min(no.after, w.m.cfg.RetryMax))
		}
		sleep(ctx, wait)
	}
}

// note counts a try.
func (w *worker) note(err error) {
	first := false
	w.hook.health.change(func(h *Health) {
		if err == nil {
			first = h.Failing
			h.Failing, h.Failures, h.Error, h.Succeeded = false, 0, "", time.Now()
			h.Delivered++
			return
		}
		first = !h.Failing
		h.Failing, h.Error = true, err.Error()
		h.Failures++
		h.Tries++
	})
	switch {
	case first && err == nil:
		w.m.log.Info("a webhook answers again", "webhook", w.hook.Name)
	case first:
		w.m.log.Warn("a webhook does not take an event; it is sent again", "webhook", w.hook.Name, "error", err)
	}
}

// backoff is the wait after the n-th failure (1, 2, …): full jitter between RetryMin and a bound that doubles up to RetryMax.
func (w *worker) backoff(n int) time.Duration {
	bound := w.m.cfg.RetryMin
	for i := 0; i < n && bound < w.m.cfg.RetryMax; i++ {
		bound *= 2
	}
	bound = min(bound, w.m.cfg.RetryMax)
	return w.m.cfg.RetryMin + rand.N(bound-w.m.cfg.RetryMin+1)
}

// sleep waits for d, or for ctx to end.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
