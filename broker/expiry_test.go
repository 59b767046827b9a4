package broker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// tokens is a catalog that knows when tokens end.
type tokens struct {
	*catalog
	mu   sync.Mutex
	ends map[string]time.Time // by accessor; those that aren't here don't count
}

func (x *tokens) end(accessor string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.ends, accessor)
}

func (x *tokens) Token(_, accessor string) (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	end, ok := x.ends[accessor]
	return end, ok
}

func (x *tokens) MountMaxTTL(string) time.Duration { return 10 * time.Hour }

// withTokens starts w again with a catalogue that knows the token "k-1".
func (w *world) withTokens(end time.Time) *tokens {
	w.stop()
	x := &tokens{catalog: w.catalog, ends: map[string]time.Time{"k-1": end}}
	w.cfg.Catalog = x
	w.start()
	return x
}

// child is a request by a caller whose token is k-1.
func child(role string, end time.Time) *gate.Request {
	r := request(role)
	r.Caller.Accessor, r.Caller.Expires = "k-1", end
	return r
}

// TestShortTokenShortensTheLease: the token has two minutes, the role half an hour; the answer says which counts, and why.
func TestShortTokenShortensTheLease(t *testing.T) {
	for _, x := range []struct {
		sentence         string
		token, ttl, max  time.Duration
		targetMax        time.Duration
		outlive          bool
		want, renewed    time.Duration
		warning, renewal string
	}{
		{sentence: "the token has two minutes and the role thirty", token: 2 * time.Minute, ttl: 30 * time.Minute, max: time.Hour,
			want: 2 * time.Minute, renewed: 2 * time.Minute,
			warning: "so the lease is 2m0s and not 30m0s", renewal: "the token that it was issued to ends at"},
		{sentence: "the token ends between the TTL and its maximum", token: 40 * time.Minute, ttl: 30 * time.Minute, max: time.Hour,
			want: 30 * time.Minute, renewed: 40 * time.Minute,
			warning: "and the lease with it", renewal: "so the lease is 40m0s and not 1h30m0s"},
		{sentence: "leases of this mount outlive the token", token: 2 * time.Minute, ttl: 30 * time.Minute, max: time.Hour, outlive: true,
			want: 30 * time.Minute, renewed: time.Hour, warning: "does not end with it", renewal: "the role's max_ttl is 1h0m0s"},
		{sentence: "the token ends later than any lease", token: 9 * time.Hour, ttl: 30 * time.Minute, max: time.Hour,
			want: 30 * time.Minute, renewed: time.Hour, renewal: "the role's max_ttl is 1h0m0s"},
		{sentence: "the token does not end", ttl: 30 * time.Minute, want: 30 * time.Minute, renewed: 90 * time.Minute},
		{sentence: "the target's limit is the smallest", token: 9 * time.Hour, ttl: 30 * time.Minute, max: time.Hour, targetMax: 20 * time.Minute,
			want: 20 * time.Minute, renewed: 20 * time.Minute,
			warning: "the target's max_ttl is 20m0s, so the lease is that and not 30m0s", renewal: "the target's max_ttl is 20m0s"},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			inMemory(t, func(w *world) {
				end := time.Time{}
				if x.token > 0 {
					end = time.Now().Add(x.token)
				}
				w.withTokens(end)
				w.catalog.set(func() {
					w.catalog.roles["database/good"] = broker.Role{
						Mount: "database/", Name: "good", Target: "good", DefaultTTL: x.ttl, MaxTTL: x.max, TargetMaxTTL: x.targetMax,
					}
				})
				r := child("good", end)
				r.Mount.Outlive = x.outlive
				resp, err := w.b.Serve(context.Background(), r)
				if err != nil {
					w.t.Fatal(err)
				}
				if resp.Lease.Duration != x.want {
					w.t.Errorf("got %v, want %v", resp.Lease.Duration, x.want)
				}
				wantWarning(w.t, resp.Warnings, x.warning)
				l := w.lease(resp.Lease.ID)
				if l.Token != "k-1" || l.Outlives != x.outlive || l.ExpiresAt.Sub(l.IssuedAt) != x.want {
					w.t.Errorf("got lease %+v", l)
				}
				got, warnings, err := w.b.Renew(context.Background(), l.ID, 90*time.Minute)
				if err != nil || got.ExpiresAt.Sub(l.IssuedAt) != x.renewed {
					w.t.Errorf("renewed: got %v, %v, want %v", got.ExpiresAt.Sub(l.IssuedAt), err, x.renewed)
				}
				wantWarning(w.t, warnings, x.renewal)
			})
		})
	}
}

// wantWarning checks that there is one warning with want in it; none where want is empty.
func wantWarning(t testing.TB, got []string, want string) {
	t.Helper()
	if all := strings.Join(got, "; "); !strings.Contains(all, want) || (want == "") != (all == "") || len(got) > 1 {
		t.Errorf("got warnings %q, want %q", got, want)
	}
}

// TestEndedTokenIssuesNothing: the token was ended while the request was on its way.
func TestEndedTokenIssuesNothing(t *testing.T) {
	test(t, func(w *world) {
		ends := w.withTokens(time.Time{})
		_, err := w.b.Serve(context.Background(), child("good", time.Now().Add(-time.Second)))
		w.wantKind(err, gate.Forbidden)
		ends.end("k-1")
		_, err = w.b.Serve(context.Background(), child("good", time.Time{}))
		w.wantKind(err, gate.Forbidden)
		if w.good.creates != 0 {
			w.t.Error("a credential was made")
		}
		w.revoked(2*time.Second, w.only().ID)
		r := child("good", time.Time{})
		r.Mount.Outlive = true
		if _, err := w.b.Serve(context.Background(), r); err != nil {
			w.t.Errorf("a lease that outlives its token: %v", err)
		}
	})
}

// TestRoleThatGoesWhileItIssues: the role was removed after the request found it; the lease is not made.
func TestRoleThatGoesWhileItIssues(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.Fault = func(point string) {
			if point == "intent-before" {
				w.catalog.set(func() { delete(w.catalog.roles, "database/good") })
			}
		}
		w.start()
		_, err := w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.NotFound)
		w.revoked(2*time.Second, w.only().ID)
		if w.good.creates != 0 {
			w.t.Error("a credential was made")
		}
	})
}
