package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/peer"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/usc"
)

// Config says what a server works with. Gate, USC and Logger must be set.
type Config struct {
	Gate    gate.Doer
	USC     *usc.Service
	Logger  *slog.Logger
	MaxBody int64 // bytes of a request's body; default 4 MiB

	// Peers finds out who a request comes from; by default the other end of the connection.
	Peers *peer.Finder
}

type server struct {
	cfg    Config
	routes []route
}

// NewServer makes the handler for everything below Prefix. It routes by itself: a mux would clean paths, and what is
// judged must be what was asked for.
func NewServer(cfg Config) http.Handler {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 4 << 20
	}
	if cfg.Peers == nil {
		cfg.Peers = &peer.Finder{}
	}
	s := &server{cfg: cfg}
	s.routes = append(s.table(), s.policyRoutes()...)
	return s
}

// call is one HTTP request on its way.
type call struct {
	*http.Request
	id    string
	token secret.Value
	from  peer.Peer
	args  map[string]string // of the route's pattern
	path  string            // canonical, below Prefix; before it is known to be that, as it came
	query url.Values
}

// answer is what a handler has to say. body nil: nothing.
type answer struct {
	status  int
	body    any
	abandon func() // called when the answer can't be released; may be nil
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Request: r, id: newID(), token: tokenOf(r)}
	var badPeer error
	c.from, badPeer = s.cfg.Peers.Of(r)
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	a, err := s.serve(c, h, badPeer)
	if err != nil {
		s.fail(w, c, err)
		return
	}
	if r.Context().Err() != nil {
		if a.abandon != nil {
			a.abandon()
		}
		return
	}
	s.write(w, c, a.status, a.body)
}

// serve finds the route of a request and runs its handler. badPeer is why it isn't known who it comes from.
func (s *server) serve(c *call, h http.Header, badPeer error) (answer, error) {
	escaped, ok := strings.CutPrefix(c.URL.EscapedPath(), Prefix)
	c.path = escaped
	if !ok {
		return answer{}, s.refuse(c, gate.NotFound, "no such route")
	}
	if badPeer != nil {
		return answer{}, s.refuse(c, gate.Invalid, badPeer.Error())
	}
	path, dir, err := vpath.Parse(escaped)
	if err != nil {
		return answer{}, s.refuse(c, gate.Invalid, err.Error())
	}
	c.path = path
	var allowed []string
	for _, rt := range s.routes {
		args, ok := rt.match(path)
		if !ok || dir {
			continue
		}
		if rt.method != c.Method {
			allowed = append(allowed, rt.method)
			continue
		}
		c.args = args
		if c.query, err = queryOf(c.URL.RawQuery, rt.query); err != nil {
			return answer{}, s.refuse(c, gate.Invalid, err.Error())
		}
		return rt.serve(c)
	}
	if allowed != nil {
		h.Set("Allow", strings.Join(allowed, ", "))
		return answer{}, s.refuse(c, gate.Unsupported, "this route has no "+strconv.Quote(c.Method))
	}
	return answer{}, s.refuse(c, gate.NotFound, "no such route")
}

// refuse records a request that can't be judged, and returns what to answer.
func (s *server) refuse(c *call, kind gate.Kind, why string) error {
	op := policy.Update
	if c.Method == http.MethodGet {
		op = policy.Read
	}
	return s.cfg.Gate.Refuse(c.Context(), s.request(c, op, Prefix[1:]+c.path), kind, why)
}

func (s *server) request(c *call, op policy.Operation, path string) *gate.Request {
	return &gate.Request{ID: c.id, Via: gate.API, Token: c.token, Op: op, Path: path, ClientAddr: c.from.Addr, ProxyAddr: c.from.Proxy, UserAgent: c.UserAgent()}
}

// do sends one request to the gate and turns what comes back into an answer. in is the body, nil where there is none.
func (s *server) do(c *call, op policy.Operation, path string, in any) (answer, error) {
	r := s.request(c, op, path)
	r.Query = c.query
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return answer{}, fmt.Errorf("encode a request: %w", err)
		}
		r.ContentType, r.Body, r.BodyLen = "application/json", bytes.NewReader(body), int64(len(body))
	}
	resp, err := s.cfg.Gate.Do(c.Context(), r)
	if err != nil {
		return answer{}, err
	}
	if resp.Raw != nil {
		resp.Raw.Body.Close() //nolint:errcheck // nothing is read from it
		return answer{}, errors.New("a path of our own was answered by a target")
	}
	return answerOf(resp)
}

func answerOf(resp *gate.Response) (answer, error) {
	a := answer{status: http.StatusOK, abandon: resp.Abandon}
	switch resp.Status {
	case gate.Missing:
		return answer{}, gate.Errorf(gate.NotFound, "there is nothing of that name")
	case gate.Accepted:
		a.status = http.StatusAccepted
	case gate.NoContent:
		if resp.Lease == nil && len(resp.Warnings) == 0 {
			a.status = http.StatusNoContent
			return a, nil
		}
	}
	body := make(map[string]any, len(resp.Data)+4)
	for k, v := range resp.Data {
		body[k] = v
	}
	if resp.Lease != nil {
		body["lease_id"], body["renewable"] = resp.Lease.ID, resp.Lease.Renewable
		body["lease_duration"] = int64(resp.Lease.Duration / time.Second)
	}
	if _, taken := body["warnings"]; !taken && len(resp.Warnings) > 0 {
		body["warnings"] = resp.Warnings
	}
	a.body = body
	return a, nil
}

// decode reads the body into v, strictly: an unknown field, or anything behind the first value, is refused.
func (s *server) decode(c *call, v any) error {
	d := json.NewDecoder(c.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("there is something behind the JSON value")
		}
	}
	var large *http.MaxBytesError
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &large):
		return s.refuse(c, gate.TooLarge, fmt.Sprintf("the body is larger than %d bytes", large.Limit))
	case errors.As(err, &syntax):
		return s.refuse(c, gate.Invalid, fmt.Sprintf("the body is not JSON: byte %d", syntax.Offset))
	case errors.As(err, &typ):
		return s.refuse(c, gate.Invalid, fmt.Sprintf("the body's field %q can't be a %s", typ.Field, kindOf(typ.Value)))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.refuse(c, gate.Invalid, "the body is missing or incomplete")
	case strings.HasPrefix(err.Error(), "json: "), strings.HasPrefix(err.Error(), "there is"):
		return s.refuse(c, gate.Invalid, "the body: "+strings.TrimPrefix(err.Error(), "json: "))
	case errors.Is(c.Context().Err(), context.Canceled):
		return err
	default:
		return s.refuse(c, gate.Invalid, "the body can't be read")
	}
}

// kindOf keeps the type of a JSON value and drops the value, which encoding/json gives along with a number.
func kindOf(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	return kind
}

func (s *server) fail(w http.ResponseWriter, c *call, err error) {
	e := errorOf(err, c.id)
	if e.Kind == Internal && c.Context().Err() == nil {
		s.cfg.Logger.Error("an API request failed", "request_id", c.id, "error", err)
	}
	if e.after > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((e.after+time.Second-1)/time.Second), 10))
	}
	s.write(w, c, e.Status, errorBody{e})
}

func (s *server) write(w http.ResponseWriter, c *call, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		s.cfg.Logger.Error("an answer can't be encoded", "request_id", c.id, "error", err)
		http.Error(w, `{"error":{"kind":"internal","message":"internal error","request_id":"`+c.id+`"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes()) //nolint:errcheck // the client is gone: there is nobody to tell
}

// tokenOf takes the credential from where clients put it.
func tokenOf(r *http.Request) secret.Value {
	if t := r.Header.Get("X-Vault-Token"); t != "" {
		return secret.New(t)
	}
	scheme, t, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return secret.New(strings.TrimSpace(t))
	}
	return secret.Value{}
}

// queryOf reads a query that may hold each of the names once.
func queryOf(raw string, names []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("the query can't be read")
	}
next:
	for name, values := range q {
		for _, n := range names {
			if n == name && len(values) == 1 {
				continue next
			}
			if n == name {
				return nil, fmt.Errorf("the query names %q more than once", name)
			}
		}
		return nil, fmt.Errorf("the query has an unknown name %q", name)
	}
	return q, nil
}

// newID is 128 random bits in the form of Vault's request ids.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: see crypto/rand
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
