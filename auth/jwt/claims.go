package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// claims are what a token says.
type claims map[string]any

func parseClaims(payload []byte) (claims, error) {
	dec := json.NewDecoder(strings.NewReader(string(payload)))
	dec.UseNumber()
	var c claims
	if err := dec.Decode(&c); err != nil || c == nil {
		return nil, errors.New("the claims are not a JSON object")
	}
	return c, nil
}

// find looks for a claim by its name, or by a JSON pointer; nil where there is none.
func (c claims) find(name string) any {
	if !strings.HasPrefix(name, "/") {
		return c[name]
	}
	var at any = map[string]any(c)
	for part := range strings.SplitSeq(name[1:], "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch x := at.(type) {
		case map[string]any:
			at = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			at = x[i]
		default:
			return nil
		}
	}
	return at
}

// text is a claim that is a string, a number or a boolean; false where it is something else.
func text(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// texts is a claim as a list: of its elements, or of itself.
func texts(v any) ([]string, bool) {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, ok := text(item)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// seconds reads a claim that is a time.
func (c claims) time(name string) (t time.Time, there bool, err error) {
	v, there := c[name]
	if !there {
		return time.Time{}, false, nil
	}
	n, ok := v.(json.Number)
	f, err := n.Float64()
	if !ok || err != nil || f < 0 || f > 1e11 {
		return time.Time{}, true, fmt.Errorf("the claim %q is not a time", name)
	}
	return time.Unix(int64(f), 0), true, nil
}

// leeways are how far clocks may differ.
type leeways struct{ expiration, notBefore, skew time.Duration }

// Vault's defaults.
const (
	claimLeeway = 150 * time.Second
	skewLeeway  = time.Minute
)

// leeway is a leeway as it is set: zero is the default, below zero is none.
func leeway(set, otherwise time.Duration) time.Duration {
	switch {
	case set < 0:
		return 0
	case set == 0:
		return otherwise
	}
	return set
}

// checkTimes says why a token does not count now. A token that doesn't say from when or until when it counts does so for a
// leeway around what it does say.
func (c claims) checkTimes(l leeways) error {
	issued, hasIssued, err1 := c.time("iat")
	from, hasFrom, err2 := c.time("nbf")
	until, hasUntil, err3 := c.time("exp")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if !hasIssued && !hasFrom && !hasUntil {
		return errors.New("no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
	}
	if !hasUntil {
		latest := issued
		if from.After(latest) {
			latest = from
		}
		until = latest.Add(leeway(l.expiration, claimLeeway))
	}
	if !hasFrom {
		from = issued
		if !hasIssued {
			from = until.Add(-leeway(l.notBefore, claimLeeway))
		}
	}
	now, skew := time.Now(), leeway(l.skew, skewLeeway)
	switch {
	case now.Add(skew).Before(from):
		return errors.New("invalid not before (nbf) claim: token not yet valid")
	case now.Add(-skew).After(until):
		return errors.New("invalid expiration time (exp) claim: token is expired")
	case hasIssued && now.Add(skew).Before(issued):
		return errors.New("invalid issued at (iat) claim: token issued in the future")
	}
	return nil
}

// checkAudience says why a token is not for us.
func (c claims) checkAudience(bound []string) error {
	aud, ok := texts(c["aud"])
	has := ok && c["aud"] != nil && len(aud) > 0
	switch {
	case len(bound) == 0 && has:
		return errors.New("audience claim found in JWT but no audiences bound to the role")
	case len(bound) > 0 && (!has || !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(bound, a) })):
		return errors.New("error validating token: invalid audience (aud) claim: audience claim does not match any expected audience")
	}
	return nil
}

// checkBound says which claim is not as a role wants it.
func (c claims) checkBound(bound map[string]any, globs bool) error {
	for name, want := range bound {
		v := c.find(name)
		if v == nil {
			return fmt.Errorf("claim %q is missing", name)
		}
		have, ok := texts(v)
		if !ok {
			return fmt.Errorf("received claim %q is not a string or list", name)
		}
		wanted, ok := texts(want)
		if !ok {
			return fmt.Errorf("bound claim %q is not a string or list", name)
		}
		if !slices.ContainsFunc(wanted, func(w string) bool {
			return slices.ContainsFunc(have, func(h string) bool { return h == w || globs && glob(w, h) })
		}) {
			return fmt.Errorf("claim %q does not match any associated bound claim values", name)
		}
	}
	return nil
}

// glob tells whether s fits a pattern in which * stands for anything.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// The bounds of what is kept of claims with a token.
const (
	maxClaims = 64
	maxClaim  = 512
)

// decisive are the claims that are kept with a token, for its records and for roles that bind claims: those that have one
// value, but for times and what is good only once.
func (c claims) decisive() map[string]string {
	out := map[string]string{}
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch name {
		case "exp", "nbf", "iat", "nonce", "jti", "at_hash", "c_hash", "auth_time":
			continue
		}
		if s, ok := text(c[name]); ok && len(s) <= maxClaim && len(out) < maxClaims {
			out[name] = s
		}
	}
	if aud, ok := texts(c["aud"]); ok && len(aud) > 0 {
		out["aud"] = aud[0]
	}
	return out
}
