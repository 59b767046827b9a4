package authtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// Server is a Vault, or Bailiff as one.
type Server struct {
	T      testing.TB
	Addr   string
	Token  string
	Client *http.Client
}

// Vault is a real Vault as root.
func Vault(t testing.TB) *Server {
	v := testenv.Vault(t)
	return &Server{T: t, Addr: v.Addr, Token: v.RootToken, Client: http.DefaultClient}
}

// Answer is what a server said.
type Answer struct {
	Code   int
	Header http.Header
	Body   map[string]any
}

// Field finds a value in the body by a path such as "auth.client_token"; nil where there is none.
func (a *Answer) Field(path string) any {
	var v any = a.Body
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// Text is Field as a string.
func (a *Answer) Text(path string) string {
	s, _ := a.Field(path).(string)
	return s
}

// Errors is what a server said went wrong, as one text.
func (a *Answer) Errors() string {
	list, _ := a.Body["errors"].([]any)
	var out []string
	for _, e := range list {
		out = append(out, plain(fmt.Sprint(e)))
	}
	return strings.Join(out, "; ")
}

// Send asks as the vault command does. body is JSON, or anything that becomes it; nil: none.
func (s *Server) Send(method, path string, body any) *Answer {
	return s.SendAs(s.Token, method, path, body)
}

// SendAs is Send with another token; empty: without one.
func (s *Server) SendAs(token, method, path string, body any) *Answer {
	s.T.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			s.T.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(s.T.Context(), method, s.Addr+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		s.T.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		s.T.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.T.Fatal(err)
	}
	a := &Answer{Code: resp.StatusCode, Header: resp.Header}
	if len(got) > 0 {
		if err := json.Unmarshal(got, &a.Body); err != nil {
			s.T.Fatalf("%s %s: %v\n%s", method, path, err, got)
		}
	}
	return a
}

// Must asks what has to succeed.
func (s *Server) Must(method, path string, body any) *Answer {
	s.T.Helper()
	a := s.Send(method, path, body)
	if a.Code >= 300 {
		s.T.Fatalf("%s %s: %d %v", method, path, a.Code, a.Body)
	}
	return a
}

// Step is one request of a script that both sides get. $NAME in Path and Body stands for what a step before it kept.
type Step struct {
	Method, Path, Body string
	NoToken            bool
	Keep               string   // "name=data.role_id name2=auth.client_token"
	Code               int      // where Bailiff answers another status than Vault does, its own
	Words              string   // where Bailiff answers another error, its own
	Ignore             []string // field paths that may differ
}

// Compare sends each step to a real Vault and to Bailiff. Statuses and errors must be the same, and so must every value in the
// answers, but for ids, times and tokens, whose kind alone is compared.
func Compare(t *testing.T, vault, bailiff *Server, steps []Step) {
	t.Helper()
	kept := map[*Server]map[string]string{vault: {}, bailiff: {}}
	for i, s := range steps {
		got, want := s.send(bailiff, kept[bailiff]), s.send(vault, kept[vault])
		name := fmt.Sprintf("step %d: %s %s %s", i+1, s.Method, s.Path, s.Body)
		if s.Code == 0 {
			s.Code = want.Code
		}
		if got.Code != s.Code {
			t.Errorf("%s: got %d %v, want %d (Vault: %d %v)", name, got.Code, got.Body, s.Code, want.Code, want.Body)
			continue
		}
		words := want.Errors()
		if s.Words != "" {
			words = fill(s.Words, kept[bailiff])
		}
		if got.Errors() != words {
			t.Errorf("%s: got the error %q, want %q (Vault: %q)", name, got.Errors(), words, want.Errors())
		}
		if d := cmp.Diff(without(want, s.Ignore), without(got, s.Ignore)); d != "" && want.Code == got.Code && words == want.Errors() {
			t.Errorf("%s: -Vault +Bailiff:\n%s", name, d)
		}
	}
}

func fill(text string, kept map[string]string) string {
	for name, value := range kept {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}

func (s *Step) send(to *Server, kept map[string]string) *Answer {
	token := to.Token
	if s.NoToken {
		token = ""
	}
	a := to.SendAs(token, s.Method, fill(s.Path, kept), fill(s.Body, kept))
	for pair := range strings.FieldsSeq(s.Keep) {
		name, path, _ := strings.Cut(pair, "=")
		kept[name] = a.Text(path)
		if list, ok := a.Field(path).([]any); ok && len(list) > 0 {
			kept[name] = fmt.Sprint(list[0])
		}
	}
	return a
}

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	wrapped  = regexp.MustCompile(`(?s)^1 error occurred:\n\t\* (.*?)\n\n$`)
)

// plain is an error without what Vault puts around some of them.
func plain(s string) string {
	if m := wrapped.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return s
}

// without is an answer without what is different each time.
func without(a *Answer, ignore []string) map[string]any {
	out := map[string]any{}
	for name, v := range a.Body {
		if name == "errors" {
			continue
		}
		out[name] = form(name, v)
	}
	for _, path := range ignore {
		forget(out, strings.Split(path, "."))
	}
	return out
}

func forget(m map[string]any, path []string) {
	if len(path) == 1 {
		delete(m, path[0])
		return
	}
	if next, ok := m[path[0]].(map[string]any); ok {
		forget(next, path[1:])
	}
}

// form is a value, or what kind of value it is where it is another one each time.
func form(name string, v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range x {
			out[key] = form(key, value)
		}
		return out
	case []any:
		out := []any{}
		for _, value := range x {
			out = append(out, form(name, value))
		}
		return out
	case string:
		switch {
		case name == "running_plugin_version":
			return "" // Bailiff's methods are no plugins
		case name == "accessor" || name == "client_token" || name == "uuid" || name == "entity_id" || name == "request_id":
			return "a " + name
		case uuidForm.MatchString(x):
			return "a UUID"
		case timeForm.MatchString(x) && !strings.HasPrefix(x, "0001-"):
			return "a time"
		}
	}
	return v
}
