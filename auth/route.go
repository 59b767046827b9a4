package auth

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Call is one request below a mount.
type Call struct {
	*gate.Request
	At   *Mount
	Args map[string]string // of the path
	Body *Body
}

// Handler answers one call.
type Handler func(ctx context.Context, c *Call) (*gate.Response, error)

// Route is one operation on one pattern below a mount. In a pattern {x} is a name as Vault takes it: letters, digits, "_",
// and inside also "-" and "."; {x...}, at its end, is the rest of the path. Update stands for a create too.
type Route struct {
	Op    policy.Operation
	Path  string
	Serve Handler
}

// Routes is what a method serves.
type Routes []Route

// Serve finds what answers c and calls it. What is not there is said in Vault's words.
func (rs Routes) Serve(ctx context.Context, c *Call) (*gate.Response, error) {
	op := c.Op
	if op == policy.Create {
		op = policy.Update
	}
	known := false
	for _, r := range rs {
		args, ok := Match(r.Path, c.Rest)
		if !ok {
			continue
		}
		known = true
		if r.Op == op {
			c.Args = args
			return r.Serve(ctx, c)
		}
	}
	if known {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	return nil, &gate.Error{Kind: gate.NotFound, Msg: "unsupported path"}
}

// Match finds the arguments of a path that fits a pattern; see Route.
func Match(pattern, path string) (map[string]string, bool) {
	var args map[string]string
	for {
		p, restPattern, morePattern := strings.Cut(pattern, "/")
		segment, rest, more := strings.Cut(path, "/")
		name, variable := strings.CutPrefix(strings.TrimSuffix(p, "}"), "{")
		switch {
		case !variable:
			if p != segment {
				return nil, false
			}
		case strings.HasSuffix(name, "..."):
			if path == "" {
				return nil, false
			}
			return with(args, strings.TrimSuffix(name, "..."), path), true
		case !isName(segment):
			return nil, false
		default:
			args = with(args, name, segment)
		}
		if !morePattern || !more {
			return args, morePattern == more
		}
		pattern, path = restPattern, rest
	}
}

func with(args map[string]string, name, value string) map[string]string {
	if args == nil {
		args = map[string]string{}
	}
	args[name] = value
	return args
}

// isName tells whether Vault would take s as a generic name.
func isName(s string) bool {
	for i, c := range []byte(s) {
		word := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !word && (i == 0 || i == len(s)-1 || c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// OK answers with data.
func OK(data map[string]any) *gate.Response { return &gate.Response{Data: data} }

// Done answers that something was done. detail is for the record.
func Done(detail string) *gate.Response {
	return &gate.Response{Status: gate.NoContent, Detail: detail}
}

// Missing answers that there is nothing.
func Missing() *gate.Response { return &gate.Response{Status: gate.Missing} }

// Keys answers a list; an empty one is Missing, as in Vault.
func Keys(names []string) *gate.Response {
	if len(names) == 0 {
		return Missing()
	}
	return OK(map[string]any{"keys": names})
}
