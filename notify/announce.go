package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

const leases = 500 // that one look at the store brings

// mark is up to which end leases have been announced to a webhook, and which node does it: the body of a document.
type mark struct {
	At    time.Time `json:"at"`
	Seq   int64     `json:"seq"` // of the last of those that end at At
	By    string    `json:"by"`
	Until time.Time `json:"until"` // of the claim

	version int64 // of the document; 0: there is none
	saved   time.Time
}

// announcer looks for leases that come to their end.
type announcer struct {
	m     *Manager
	marks map[string]*mark // of webhooks for which this node looks
}

// announce records leases that come to their end until ctx ends.
func (m *Manager) announce(ctx context.Context) {
	a := &announcer{m: m, marks: make(map[string]*mark)}
	trouble := ""
	for ctx.Err() == nil {
		hooks, _ := m.declared()
		var err error
		for _, h := range hooks {
			if slices.Contains(h.Events, object.EventExpiring) {
				err = errors.Join(err, a.round(ctx, h))
			}
		}
		switch {
		case err == nil:
			trouble = ""
		case ctx.Err() == nil && err.Error() != trouble:
			trouble = err.Error()
			m.log.Error("leases that expire can't be announced; it is tried again", "error", err)
		}
		sleep(ctx, m.cfg.Look)
	}
}

// round announces to one webhook what has come within its time before the end since the last time.
func (a *announcer) round(ctx context.Context, h *hook) error {
	k, err := a.claim(ctx, h)
	if k == nil || err != nil {
		return err
	}
	until := time.Now().UTC().Add(time.Duration(h.Before))
	for {
		list, err := a.m.cfg.Leases.Expiring(ctx, k.At, k.Seq, until, leases)
		if err != nil {
			return err
		}
		if err := a.record(ctx, h, list); err != nil {
			return err
		}
		if n := len(list); n > 0 {
			k.At, k.Seq = list[n-1].NextAt, list[n-1].Seq
		}
		if len(list) < leases {
			if until.After(k.At) {
				k.At, k.Seq = until, 0
			}
			if len(list) == 0 && time.Since(k.saved) < a.m.cfg.Claim/2 {
				return nil
			}
			return a.save(ctx, h.Name, k)
		}
		if err := a.save(ctx, h.Name, k); err != nil {
			return err
		}
	}
}

// claim is the mark of a webhook where this node is the one that looks; nil where another is.
func (a *announcer) claim(ctx context.Context, h *hook) (*mark, error) {
	now := time.Now().UTC()
	if k := a.marks[h.Name]; k != nil && k.Until.After(now) {
		return k, nil
	}
	delete(a.marks, h.Name)
	d, err := a.m.cfg.Cursors.Document(ctx, space, h.Name+"/"+expiring)
	k := &mark{At: h.since.UTC().Add(time.Duration(h.Before))}
	switch {
	case errors.Is(err, document.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(d.Body, k); err != nil {
			return nil, fmt.Errorf("the mark of webhook %s can't be read: %w", h.Name, err)
		}
		k.version = d.Version
	}
	if k.By != a.m.cfg.Node && k.Until.After(now) {
		return nil, nil
	}
	if err := a.save(ctx, h.Name, k); err != nil {
		return nil, err
	}
	if k.version == 0 { // another was quicker
		return nil, nil
	}
	a.marks[h.Name] = k
	return k, nil
}

// save writes a mark and so renews the claim. Where another node has taken it over, or the webhook is gone, the mark is
// forgotten.
func (a *announcer) save(ctx context.Context, name string, k *mark) error {
	k.By, k.Until = a.m.cfg.Node, time.Now().UTC().Add(a.m.cfg.Claim)
	body, err := json.Marshal(k)
	if err != nil {
		return err
	}
	c := &document.Change{Document: document.Document{Space: space, Key: name + "/" + expiring, Version: k.version, Body: body}}
	err = a.m.cfg.Cursors.WriteDocuments(ctx, c)
	if err != nil {
		delete(a.marks, name)
		k.version = 0
		if errors.Is(err, document.ErrConflict) {
			return nil
		}
		return err
	}
	k.version, k.saved = c.Version, time.Now()
	return nil
}

// record makes events of leases. Killed after it and before the mark is written, it makes them once more.
func (a *announcer) record(ctx context.Context, h *hook, list []*broker.Lease) error {
	var records []*audit.Record
	now := time.Now()
	for _, l := range list {
		r := &audit.Record{
			Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Node: a.m.cfg.Node, Op: "notify",
			RequestID: l.RequestID, Identity: l.Identity, AccessID: l.AccessID, Path: l.Mount + "creds/" + l.Role, Mount: l.Mount,
			Target: l.Target, LeaseID: l.ID, Principal: l.Principal, Detail: tellOf(l.ExpiresAt, h.Name), Event: object.EventExpiring,
			MayWait: true,
		}
		if _, ok := eventOf(r, &h.Notify, ""); ok && l.ExpiresAt.After(now) {
			records = append(records, r)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return a.m.cfg.Trail.Append(ctx, records...)
}
