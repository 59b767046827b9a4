package gate_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// usedUp lets everybody in for the last time.
type usedUp struct{ door }

func (u usedUp) Authenticate(ctx context.Context, token secret.Value, from netip.Addr) (identity.Caller, error) {
	c, err := u.door.Authenticate(ctx, token, from)
	c.LastUse = err == nil && c.Name != "always"
	return c, err
}

func TestATokensLastUseEndsIt(t *testing.T) {
	for title, tt := range map[string]struct {
		who, path string
		leased    bool
		want      string // the error
		ends      bool
	}{
		"the last use is answered, then the token ends":  {who: "app", path: "secret/a", ends: true},
		"one that is denied was the last too":            {who: "app", path: "other/a", want: "permission denied", ends: true},
		"what would be issued to it is not":              {who: "app", path: "secret/a", leased: true, want: "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.", ends: true},
		"who is not let in has used nothing":             {who: "nobody", path: "secret/a", want: "permission denied"},
		"a token that may be used again does not end":    {who: "always", path: "secret/a"},
		"and it is issued what it asks for, as it stays": {who: "always", path: "secret/a", leased: true},
	} {
		t.Run(title, func(t *testing.T) {
			tr := &trail{}
			abandoned := false
			b := &backend{trail: tr, resp: &gate.Response{Data: map[string]any{}, Abandon: func() { abandoned = true }}}
			if tt.leased {
				b.resp.Lease = &gate.Lease{ID: "x"}
			}
			table, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Backend: b}, {Path: "other/", Backend: b}})
			if err != nil {
				t.Fatal(err)
			}
			may := `path "secret/*" { capabilities = ["read"] }`
			g, err := gate.New(gate.Config{
				Authenticator: usedUp{}, Policies: rules{"app": may, "always": may}, Mounts: func() *gate.Mounts { return table }, Recorder: tr,
				Logger: slog.New(slog.DiscardHandler), Finish: func(context.Context, *identity.Caller) { tr.note("finished") },
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = g.Do(t.Context(), &gate.Request{Token: secret.New(tt.who), Op: "read", Path: tt.path})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if ended := slices.Contains(tr.events, "finished"); ended != tt.ends || ended && tr.events[len(tr.events)-1] != "finished" {
				t.Errorf("got %v, the token's end wanted behind everything: %v", tr.events, tt.ends)
			}
			if lost := tt.leased && tt.ends; abandoned != lost {
				t.Errorf("the credential was abandoned: %v, want %v", abandoned, lost)
			}
			if errors.Is(err, gate.ErrNoRecord) {
				t.Error("no record was kept")
			}
		})
	}
}
