package gate

import (
	"context"
	"crypto/x509"
	"io"
	"net/netip"
	"net/url"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Door says which way a request came in.
type Door string

// The doors.
const (
	HVP    Door = "hvp"
	USC    Door = "usc"
	API    Door = "api"
	System Door = "system"
)

// Request is one operation on one Vault path, whichever door it came through.
// A door fills the first group and passes it to Gate.Do, which fills the second.
type Request struct {
	ID          string // 32 hex digits in Vault's form; Do makes one where it is empty
	Via         Door
	Token       secret.Value     // the credential as presented; never sent on
	Op          policy.Operation // doors say Update for every write; Do finds out whether it is a Create
	Path        string           // canonical (vpath.Parse), without the leading /v1/
	Query       url.Values       // without the parameters that chose Op (list, help)
	ContentType string
	Body        io.Reader // nil where there is none; already limited by the door
	BodyLen     int64     // bytes, or -1 where not known
	ClientAddr  netip.Addr
	ProxyAddr   netip.Addr // of the trusted proxy that named ClientAddr; not valid where the client came by itself
	UserAgent   string
	Index       string        // X-Vault-Index, passed on
	Namespace   string        // which the door was told apart from the path; without slashes around it; empty: root
	WrapTTL     time.Duration // the answer is to be wrapped for so long; zero: not
	WrapFormat  string        // "" or "jwt"
	Reason      string        // X-Bailiff-Reason: what the caller says it is for; policies can ask for one
	Ticket      string        // X-Bailiff-Ticket: where that is written down
	Start       time.Time

	// Certificates are those that the client's TLS connection came with, its own first. The handshake has proven that the client
	// has its key, and nothing else: who issued it is not checked.
	Certificates []*x509.Certificate

	Caller   identity.Caller
	Decision policy.Decision
	Mount    *Mount
	Rest     string // Path below Mount.Path

	changes bool
	overlap *overlap // nil where nothing is done beside the records
}

// Status is how a Response ended, in words that each door maps to its own wire.
type Status int

// The statuses of an answer.
const (
	OK        Status = iota // with Data, or with Raw
	NoContent               // done, nothing to say
	Accepted                // will be done; the promise is durable
	Missing                 // nothing there: Vault's 404 with an empty list of errors
)

// Response is what a Backend answers: Data (our own answer) or Raw (a target's answer, streamed), never both.
type Response struct {
	Status   Status
	Data     map[string]any
	Bare     bool // Data is the whole body (sys/health, sys/seal-status), not wrapped in Vault's envelope
	Lease    *Lease
	Auth     *Auth // of a login or a new token
	Wrap     *Wrap // instead of everything else
	Warnings []string
	Raw      *Raw

	// Abandon is called once when the answer can't be released (no record could be kept, or the client is gone before the
	// first byte): what was issued must then be ended. It must not block on a target. May be nil.
	Abandon func()

	// For the record; never sent to the client.
	Principal string // name made or ended on the target
	LeaseID   string // where Lease is nil but one was touched
	Detail    string // what changed, in words, without values
}

// Lease is the part of an answer that says how long its credential is kept.
type Lease struct {
	ID        string
	Renewable bool
	Duration  time.Duration
}

// Auth is the part of an answer that holds a new token.
type Auth struct {
	ClientToken      secret.Value
	Accessor         string
	Policies         []string // of the token and of the identity, sorted
	TokenPolicies    []string
	IdentityPolicies []string
	Metadata         map[string]string
	LeaseDuration    time.Duration
	Renewable        bool
	EntityID         string
	TokenType        string // service or batch
	Orphan           bool
	NumUses          int
}

// Wrap is the part of an answer that stands for one that is kept.
type Wrap struct {
	Token           secret.Value
	Accessor        string
	TTL             time.Duration
	CreationTime    time.Time
	CreationPath    string
	WrappedAccessor string // of the token in the kept answer, where there is one
}

// Raw is a target's own answer. Whoever receives it must close Body.
type Raw struct {
	Code   int // as the target gave it
	Header []Field
	Body   io.ReadCloser
	Length int64 // of Body in bytes, or -1
}

// Field is one header line that may be passed on.
type Field struct{ Name, Value string }

// Backend serves a mount: a Vault behind (upstream), the broker, sys.
// Serve is reached only by a request that Gate has judged and, where it changes a target, recorded.
// It must honour ctx and be safe for concurrent use. Errors are *Error where the caller should learn more than
// that something went wrong.
type Backend interface {
	Serve(ctx context.Context, r *Request) (*Response, error)
}

// Exister is a Backend that can tell a create from an update. Exists is asked only when policy allows one of the two
// and not the other. known is false where the backend can't tell; the write then counts as an update, as in Vault.
type Exister interface {
	Exists(ctx context.Context, r *Request) (exists, known bool, err error)
}

// Judge is a Backend with paths that any known caller may use and that show a caller only what is theirs
// (sys/internal/ui/mounts, a token's own lookup): policy is not asked for those, the record is kept all the same.
type Judge interface {
	Open(r *Request) bool
}

// Greeter is a Backend with paths that need no caller: logins. Whoever is let in there is set as r.Caller by Serve, so that
// the record names them.
type Greeter interface {
	NeedsNoCaller(r *Request) bool
}

// Guarded is a Backend with paths that need the sudo capability beside the one for the operation, as some of Vault's do.
type Guarded interface {
	NeedsSudo(r *Request) bool
}

// Ender is a Backend with requests that end something: a lease, a key. They can still be recorded, and so be done, when the
// disk is too full for others.
type Ender interface {
	Ends(r *Request) bool
}

// Changer is a Backend for which the operation alone doesn't tell whether a target is changed (a read that issues).
// Without it every operation but read, list and help counts as a change.
type Changer interface {
	Changes(r *Request) bool
}
