package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// BenchmarkRead reads one KV v2 secret of a real Vault through every part, from 16 connections. The client's own work is in
// the figures: compare runs of this benchmark with one another only. test/bench compares with others.
func BenchmarkRead(b *testing.B) {
	v := testenv.Vault(b)
	cfg := config.Default(b.TempDir())
	cfg.Listener.Address, cfg.Metrics.Address = "127.0.0.1:0", ""
	s, err := open(b.Context(), cfg, Options{Stdout: io.Discard, Stderr: io.Discard, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		b.Fatal(err)
	}
	defer s.close() //nolint:errcheck // nothing is kept
	var records []object.Record
	for _, o := range []any{
		&object.Target{Name: "v", Type: "vault", Address: v.Addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New(v.RootToken)}},
		&object.Mount{Path: "secret", Type: "vault", Target: "v"}, &object.Policy{Name: "admin", Rules: AdminPolicy},
		&object.Role{Name: "admin", Policies: []string{"admin"}},
	} {
		r, err := object.Encode(o)
		if err != nil {
			b.Fatal(err)
		}
		records = append(records, r)
	}
	if _, err := s.estate.Apply(b.Context(), "bench", records, false, nil); err != nil {
		b.Fatal(err)
	}
	key, err := identities{s.estate}.Create(b.Context(), "bench", object.Identity{Name: "bench", Roles: []string{"admin"}}, "")
	if err != nil {
		b.Fatal(err)
	}
	ln, err := listen(b.Context(), "127.0.0.1:0", nil, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	srv := s.httpServer()
	go srv.Serve(ln)  //nolint:errcheck // ends with the benchmark
	defer srv.Close() //nolint:errcheck // nothing is kept
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	call := func(method, body string) {
		req, err := http.NewRequest(method, "http://"+ln.Addr().String()+"/v1/secret/data/bench", strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		req.Header.Set("X-Vault-Token", key.AccessID+".."+key.Key.Reveal())
		resp, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Error(err)
		}
		resp.Body.Close() //nolint:errcheck // read to its end
		if resp.StatusCode != http.StatusOK {
			b.Errorf("status %d", resp.StatusCode)
		}
	}
	call(http.MethodPut, `{"data":{"a":"`+strings.Repeat("x", 512)+`"}}`)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			call(http.MethodGet, "")
		}
	})
}
