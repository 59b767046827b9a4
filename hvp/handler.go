package hvp

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/peer"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
)

// DefaultMaxBody is the limit of a request body in bytes, as in Vault.
const DefaultMaxBody = 32 << 20

// Config is what a Handler needs. Gate, Info and Logger must be set.
type Config struct {
	Gate    gate.Doer
	Info    func(ctx context.Context) Info // how Bailiff is; called for each request of a status path
	MaxBody int64                          // of a request, in bytes; default 32 MiB
	Logger  *slog.Logger
	Peers   *peer.Finder // who requests come from; default: the other end of the connection
}

// Handler serves /v1/. It is safe for concurrent use.
type Handler struct {
	gate    gate.Doer
	info    func(ctx context.Context) Info
	maxBody int64
	logger  *slog.Logger
	peers   *peer.Finder
	buffers sync.Pool // of *[copySize]byte

	noStore, strict, noSniff []string // the values of headers that every answer has; never changed
}

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Gate == nil || cfg.Info == nil || cfg.Logger == nil {
		return nil, errors.New("hvp: a part is missing from the configuration")
	}
	if cfg.MaxBody < 0 {
		return nil, errors.New("hvp: the limit of a body is negative")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Peers == nil {
		cfg.Peers = &peer.Finder{}
	}
	h := &Handler{gate: cfg.Gate, info: cfg.Info, maxBody: cfg.MaxBody, logger: cfg.Logger, peers: cfg.Peers}
	h.buffers.New = func() any { return new([copySize]byte) }
	h.noStore = []string{"no-store"}
	h.strict = []string{"max-age=31536000; includeSubDomains"}
	h.noSniff = []string{"nosniff"}
	return h, nil
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setHeaders(w.Header())
	if r.Body != nil && r.Body != http.NoBody {
		// Also a body that nobody reads: net/http reads on to its end before it answers.
		extend(http.NewResponseController(w), time.Now().Add(bodyPause))
	}
	target, rawQuery, _ := strings.Cut(r.RequestURI, "?")
	escaped, below := strings.CutPrefix(target, "/v1/")
	if below && h.status(w, r, escaped) {
		return
	}
	q := &gate.Request{
		Via:       gate.HVP,
		Op:        operation(r.Method),
		Path:      escaped,
		UserAgent: r.UserAgent(),
		Start:     time.Now(),
	}
	if no := h.read(q, r, rawQuery, below); no != nil {
		err := h.gate.Refuse(r.Context(), q, no.kind, no.why)
		nameRequest(w, q)
		h.fail(w, r, q, &refusal{err, no})
		return
	}
	body := h.body(w, q, r)
	resp, err := h.gate.Do(r.Context(), q)
	nameRequest(w, q)
	if body != nil && body.over() {
		// Whatever became of it: the request that was meant is not the one that could have been served.
		err = body.tooLarge()
		letGo(resp)
	}
	if err != nil {
		h.fail(w, r, q, err)
		return
	}
	h.answer(w, r, q, resp)
}

// nameRequest tells which records are about the request, so that whoever has them can say why it ended as it did.
func nameRequest(w http.ResponseWriter, q *gate.Request) {
	w.Header()["X-Bailiff-Request-Id"] = []string{q.ID}
}

// setHeaders sets what Vault sets on every answer of its API, and keeps browsers from guessing types.
func (h *Handler) setHeaders(to http.Header) {
	to["Cache-Control"] = h.noStore
	to["Strict-Transport-Security"] = h.strict
	to["X-Content-Type-Options"] = h.noSniff
}

// no says why a request can't be judged.
type no struct {
	kind  gate.Kind
	why   string
	media bool // it is the format of the body
	quiet bool // Vault doesn't say why, and nor do we
}

// read fills q from r. Nothing in it has been acted on yet when it returns a no.
func (h *Handler) read(q *gate.Request, r *http.Request, rawQuery string, below bool) *no {
	from, err := h.peers.Of(r)
	if err != nil {
		return &no{kind: gate.Invalid, why: err.Error()}
	}
	q.ClientAddr, q.ProxyAddr = from.Addr, from.Proxy
	if r.TLS != nil {
		q.Certificates = r.TLS.PeerCertificates
	}
	var why string
	if q.Token, why = token(r.Header); why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	if !below {
		return &no{kind: gate.Invalid, why: "the request target must begin with /v1/"}
	}
	if strings.IndexByte(q.Path, '#') >= 0 {
		return &no{kind: gate.Invalid, why: "the request target holds a fragment"}
	}
	path, dir, err := vpath.Parse(q.Path)
	if err != nil {
		return &no{kind: gate.Invalid, why: err.Error()}
	}
	q.Path = path
	var query url.Values
	if rawQuery != "" {
		if query, err = url.ParseQuery(rawQuery); err != nil {
			return &no{kind: gate.Invalid, why: "the query can't be read"}
		}
	}
	if n := choose(q, r, query); n != nil {
		return n
	}
	if dir && q.Op != policy.List {
		return &no{kind: gate.Invalid, why: "a path that ends in a slash can only be listed"}
	}
	if q.Index, why = single(r.Header, "X-Vault-Index"); why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	if q.Reason, why = stated(r.Header, "X-Bailiff-Reason"); why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	if q.Ticket, why = stated(r.Header, "X-Bailiff-Ticket"); why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	return h.refused(q, r)
}

// stated reads what a caller says that it is for.
func stated(h http.Header, name string) (text, why string) {
	const most = 512
	if text, why = single(h, name); why == "" && len(text) > most {
		return "", "the header " + name + " is longer than 512 bytes"
	}
	return text, why
}

// refused says which wish of a request is not served (yet).
func (h *Handler) refused(q *gate.Request, r *http.Request) *no {
	switch {
	case q.Path == "sys/init" && q.Op == policy.Update:
		return &no{kind: gate.Invalid, why: "Vault is already initialized"}
	case q.Op != policy.Read && (q.Path == "sys/health" || q.Path == "sys/seal-status" || q.Path == "sys/leader" || q.Path == "sys/init"):
		return &no{kind: gate.Unsupported, why: "the path can only be read", quiet: true}
	}
	if n := namespace(q, r.Header); n != nil {
		return n
	}
	if n := wrapping(q, r.Header); n != nil {
		return n
	}
	if writes(q.Op) && r.ContentLength > h.maxBody {
		return &no{kind: gate.TooLarge, why: h.tooLarge()}
	}
	return nil
}

// operation is what a method means by itself; empty where Vault does not know it.
func operation(method string) policy.Operation {
	switch method {
	case http.MethodGet:
		return policy.Read
	case http.MethodPut, http.MethodPost:
		return policy.Update
	case http.MethodPatch:
		return policy.Patch
	case http.MethodDelete:
		return policy.Delete
	case "LIST":
		return policy.List
	case "HELP":
		return policy.Help
	}
	return ""
}

func writes(op policy.Operation) bool { return op == policy.Update || op == policy.Patch }

// choose settles q.Op and q.Query from the method and the query, as Vault does.
func choose(q *gate.Request, r *http.Request, query url.Values) *no {
	if q.Op == "" {
		if r.Method == http.MethodOptions {
			return &no{kind: gate.Unsupported, why: "1 error occurred:\n\t* unsupported operation\n\n"}
		}
		return &no{kind: gate.Unsupported, why: "method " + cut(r.Method, 32) + " is not served here", quiet: true}
	}
	if query.Get("help") != "" {
		q.Op = policy.Help
	}
	if list := query.Get("list"); q.Op == policy.Read && list != "" {
		yes, err := strconv.ParseBool(list)
		if err != nil {
			return &no{kind: gate.Invalid, why: "the query parameter list must be true or false", quiet: true}
		}
		if yes {
			q.Op = policy.List
		}
	}
	delete(query, "list")
	delete(query, "help")
	if len(query) > 0 {
		q.Query = query
	}
	if q.Op == policy.Patch {
		return patchType(r)
	}
	return nil
}

const mergePatch = "application/merge-patch+json"

// patchType wants the one format in which a PATCH can be, in Vault's words.
func patchType(r *http.Request) *no {
	given, why := single(r.Header, "Content-Type")
	if why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	t, _, err := mime.ParseMediaType(given)
	if err != nil {
		return &no{kind: gate.Invalid, why: err.Error()}
	}
	if t != mergePatch {
		return &no{kind: gate.Unsupported, why: "PATCH requires Content-Type of " + mergePatch + ", provided " + cut(t, 64), media: true}
	}
	return nil
}

// token finds the one credential of a request.
func token(h http.Header) (t secret.Value, why string) {
	given, why := single(h, "X-Vault-Token")
	if why != "" {
		return secret.Value{}, why
	}
	for _, a := range h["Authorization"] {
		scheme, value, ok := strings.Cut(a, " ")
		if !ok || !strings.EqualFold(scheme, "bearer") {
			continue
		}
		value = strings.TrimSpace(value)
		if given != "" && value != given {
			return secret.Value{}, "the request holds two different tokens"
		}
		given = value
	}
	return secret.New(given), ""
}

// single is the value of a header that may stand only once, or several times with the same value.
func single(h http.Header, name string) (value, why string) {
	for _, v := range h[name] {
		if value != "" && v != value {
			return "", "the header " + name + " is given twice with different values"
		}
		value = v
	}
	return value, ""
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}
