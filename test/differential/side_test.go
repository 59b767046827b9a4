package differential_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// side is one of the two that are compared: Vault itself, or Bailiff in front of its equal.
type side struct {
	addr string
	home string            // of the vault command
	vars map[string]string // what was kept, and tokens by the names of who has them
}

// client follows no redirects and decodes nothing, as a proxy's client would.
var client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// compared lists the headers whose values clients see.
var compared = []string{
	"Allow", "Cache-Control", "Content-Type", "Location", "Retry-After", "Strict-Transport-Security", "Www-Authenticate",
	"X-Vault-Hostname", "X-Vault-Index",
}

// seen is an answer as fields: each has a name and a text that is the same on both sides if they do the same.
type seen map[string]string

// take does one step and keeps what it says to keep.
func (s *side) take(t *testing.T, p *step) seen {
	t.Helper()
	switch p.method {
	case "CLI":
		return s.command(t, p)
	case "RAW":
		return s.raw(t, p)
	}
	req := s.request(t, p)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %s: %v", p.place, s.addr, err)
	}
	return s.answer(t, p, resp)
}

func (s *side) request(t *testing.T, p *step) *http.Request {
	t.Helper()
	var body io.Reader = http.NoBody
	if p.body != "" {
		body = strings.NewReader(s.fill(p.body))
	}
	req, err := http.NewRequestWithContext(t.Context(), p.method, s.addr, body)
	if err != nil {
		t.Fatalf("%s: %v", p.place, err)
	}
	target := s.fill(p.path)
	if !strings.HasPrefix(target, "/") {
		target = "/v1/" + target
	}
	path, query, _ := strings.Cut(target, "?")
	req.URL = &url.URL{Scheme: "http", Host: req.URL.Host, Opaque: path, RawQuery: query}
	if token := s.token(p); token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	for _, line := range p.extra {
		name, value, _ := strings.Cut(line, ":")
		req.Header.Add(name, strings.TrimSpace(s.fill(value)))
	}
	return req
}

func (s *side) token(p *step) string {
	if p.caller == "none" {
		return ""
	}
	if v, ok := s.vars[p.caller]; ok {
		return v
	}
	return "hvs.nosuchtoken"
}

func (s *side) answer(t *testing.T, p *step, resp *http.Response) seen {
	t.Helper()
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %s: the answer: %v", p.place, s.addr, err)
	}
	out := seen{"status": strconv.Itoa(resp.StatusCode)}
	for _, name := range compared {
		if v := resp.Header.Values(name); len(v) > 0 {
			out["header."+name] = s.mask(strings.Join(v, ", "))
		}
	}
	s.put(out, "", body, p)
	return out
}

// raw sends bytes and reads one answer.
func (s *side) raw(t *testing.T, p *step) seen {
	t.Helper()
	text, err := strconv.Unquote(p.body)
	if err != nil {
		t.Fatalf("%s: %v", p.place, err)
	}
	addr := strings.TrimPrefix(s.addr, "http://")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatalf("%s: %v", p.place, err)
	}
	defer conn.Close() //nolint:errcheck // done with
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(s.fill(text), "HOST", addr)
	if _, err := io.WriteString(conn, strings.ReplaceAll(text, "TOKEN", s.token(p))); err != nil {
		t.Fatalf("%s: %v", p.place, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return seen{"status": "no answer"}
	}
	return s.answer(t, p, resp)
}

// command runs the vault command.
func (s *side) command(t *testing.T, p *step) seen {
	t.Helper()
	args := make([]string, len(p.args))
	for i, a := range p.args {
		args[i] = s.fill(a)
	}
	env := []string{"VAULT_ADDR=" + s.addr, "VAULT_MAX_RETRIES=0", "HOME=" + s.home}
	if token := s.token(p); token != "" {
		env = append(env, "VAULT_TOKEN="+token)
	}
	for _, e := range p.extra {
		env = append(env, s.fill(e))
	}
	stdout, stderr, code := testenv.RunCLI(t, s.fill(p.stdin), testenv.VaultBinary(t), env, args...)
	out := seen{"exit": strconv.Itoa(code)}
	s.put(out, "stdout", []byte(stdout), p)
	if stderr != "" {
		out["stderr"] = s.mask(squeeze(stderr))
	}
	return out
}

// put takes a text apart, if it is JSON, and keeps what the step says to keep.
func (s *side) put(out seen, name string, body []byte, p *step) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil || dec.More() || !strings.ContainsAny(string(body[:1]), "{[") {
		if len(body) > 0 {
			if name == "" {
				name = "body"
			}
			out[name] = s.mask(squeeze(string(body)))
		}
		for _, k := range p.keep {
			if k[1] == "stdout" {
				s.vars[k[0]] = strings.TrimSpace(string(body))
			}
		}
		return
	}
	plain := map[string]string{}
	leaves(v, name, plain)
	for _, k := range p.keep {
		key := k[1]
		if name != "" {
			key = name + "." + key
		}
		if value := plain[key]; value != "" {
			s.vars[k[0]] = strings.TrimPrefix(value, "=")
		}
	}
	for path, value := range plain {
		out[s.mask(path)] = s.maskField(path, value)
	}
}

// fill puts what was kept in the place of its name.
func (s *side) fill(text string) string {
	if !strings.Contains(text, "${") {
		return text
	}
	for name, value := range s.vars {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}

// hide is the opposite: it puts names where the side's own values stand, the longest first.
func (s *side) hide(text string) string {
	names := make([]string, 0, len(s.vars))
	for name, value := range s.vars {
		if len(value) >= 12 { // shorter ones may stand for something else
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := s.vars[names[i]], s.vars[names[j]]
		return len(a) > len(b) || len(a) == len(b) && names[i] < names[j]
	})
	for _, name := range names {
		text = strings.ReplaceAll(text, s.vars[name], "<"+name+">")
	}
	return text
}

// newSide makes a side with a home for its command.
func newSide(t *testing.T, addr, token string) *side {
	t.Helper()
	s := &side{addr: addr, home: t.TempDir(), vars: map[string]string{"root": token, "addr": addr}}
	for name, text := range map[string]string{"p.hcl": fewRules, "j.json": `{"j":1,"n":{"x":[1,2]}}`} {
		file := filepath.Join(s.home, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.vars[strings.TrimSuffix(name, filepath.Ext(name))+"-file"] = file
	}
	return s
}

// leaves lists the fields of a value by their paths.
func leaves(v any, path string, out map[string]string) {
	join := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[path] = "{}"
		}
		for name, value := range v {
			leaves(value, join(name), out)
		}
	case []any:
		if len(v) == 0 {
			out[path] = "[]"
		}
		for i, value := range v {
			leaves(value, join(strconv.Itoa(i)), out)
		}
	case nil:
		out[path] = "null"
	case string:
		out[path] = v
	default:
		out[path] = fmt.Sprintf("=%v", v) // a number or a truth, not the text of one
	}
}
