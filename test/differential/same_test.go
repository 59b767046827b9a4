package differential_test

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// volatile is what differs between two runs of the same.
var volatile = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`(?s)--+BEGIN ([A-Z ]+)--+.*?--+END [A-Z ]+--+`), "PEM $1"},
	{regexp.MustCompile(`Waiting for terminal status in migration[^\n]*\n`), ""}, // if it took a moment
	{regexp.MustCompile(` -H "X-Vault-Request: true"`), ""},                      // it stands before or after the token
	{regexp.MustCompile(`vault-cluster-[0-9a-f]{8}`), "CLUSTER"},
	{regexp.MustCompile(`(?m)^(password|private_key|ca_chain|expiration|serial_number) .*$`), "$1 SOME"},
	{regexp.MustCompile(`[A-Za-z0-9+/]{43}=`), "KEY"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`request id [0-9a-f]{32}`), "request id UUID"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`hv[sb]\.[A-Za-z0-9_-]{20,}|b[tw]_[A-Za-z0-9]{40,}|\b[sb]\.[A-Za-z0-9]{24}\b`), "TOKEN"},
	{regexp.MustCompile(`vault:v(\d+):[A-Za-z0-9+/=_-]+`), "vault:v${1}:CIPHER"},
	{regexp.MustCompile(`([0-9a-f]{2}[:-]){15,19}[0-9a-f]{2}`), "SERIAL"},
	{regexp.MustCompile(`ssh-(rsa|ed25519)(-cert-v01@openssh\.com)? [A-Za-z0-9+/=]{60,}`), "ssh-${1}${2} KEY"},
	{regexp.MustCompile(`\b([a-z]+(_[a-z]+)?)_[0-9a-f]{6,8}\b`), "${1}_ACCESSOR"},
	{regexp.MustCompile(`\b[vb][-l]-?(token|root|[a-z]+)-[A-Za-z0-9_-]{16,}`), "PRINCIPAL"},
	{regexp.MustCompile(`(creds/[a-z]+|login/[a-z]+|create)/[A-Za-z0-9]{20,}`), "${1}/ID"},
	{regexp.MustCompile(`\b[A-Za-z0-9]{24}\b`), "ACCESSOR"},
	{regexp.MustCompile(`\bh[0-9a-f]{64}\b`), "ACCESSOR"},
}

// lasting finds durations as the command prints them: they are some seconds shorter at the second look.
var lasting = regexp.MustCompile(`\b(\d+h)?(\d+m)?(\d+s)\b|\b\d+h\b|\b\d+m\b`)

// metadata finds what the command prints of a token's metadata, in any order.
var metadata = regexp.MustCompile(`(?m)(^token_meta_.*\n)+`)

// squeeze takes away widths: they follow from what else is different.
func squeeze(text string) string {
	for _, w := range []struct{ find, put string }{{`[ \t]+`, " "}, {`--+`, "--"}, {`==+`, "=="}, {` \n`, "\n"}} {
		text = regexp.MustCompile(w.find).ReplaceAllString(text, w.put)
	}
	text = metadata.ReplaceAllStringFunc(text, func(lines string) string {
		sorted := slices.Sorted(strings.Lines(lines))
		return strings.Join(sorted, "")
	})
	return lasting.ReplaceAllStringFunc(text, func(s string) string {
		d, err := time.ParseDuration(s)
		if err != nil || d < time.Minute/2 {
			return s
		}
		step := 10 * time.Second
		switch {
		case d > 90*time.Minute:
			step = 10 * time.Minute
		case d > 5*time.Minute:
			step = time.Minute
		}
		return d.Round(step).String()
	})
}

func (s *side) mask(text string) string {
	return maskVolatile(s.hide(text))
}

func maskVolatile(text string) string {
	for _, v := range volatile {
		text = v.find.ReplaceAllString(text, v.put)
	}
	return text
}

// listed finds the names of a list.
var listed = regexp.MustCompile(`keys\.\d+$`)

// maskField masks the value of a field, some of which are different in every run whatever they look like.
func (s *side) maskField(field, value string) string {
	if listed.MatchString(field) {
		value = maskVolatile(value) // names in a list may have another order
	}
	name := field[strings.LastIndexByte(field, '.')+1:]
	switch name {
	case "request_id", "password", "private_key", "serial_number", "nonce", "barcode", "url", "random_bytes", "sum", "hmac", "signature",
		"signed_key", "code", "ciphertext", "plaintext_key", "build_date", "expiration", "cluster_id", "cluster_name":
		if value != "" && !strings.HasPrefix(value, "=") && value != "null" {
			return "some " + name
		}
	case "lease_id":
		if i := strings.LastIndexByte(value, '/'); i > 0 && s.hide(value) == value {
			return value[:i] + "/ID"
		}
	}
	return s.mask(value)
}

// near finds fields that are moments and durations in seconds.
var near = regexp.MustCompile(`(ttl|duration|time|expir\w*|renewal|age)(_utc)?$`)

func sameField(name, a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseInt(strings.TrimPrefix(a, "="), 10, 64)
	y, errY := strconv.ParseInt(strings.TrimPrefix(b, "="), 10, 64)
	if errX != nil || errY != nil || !near.MatchString(name) || a[:1] != b[:1] {
		return false
	}
	room := int64(5)
	if x > 1<<30 { // a moment
		room = 120
	}
	return x-y <= room && y-x <= room && x != 0 && y != 0
}

// differences lists the fields that are another on the two sides. Where an answer ended another way that is the difference,
// and where a side has nothing of a part the part is.
func differences(vault, bailiff seen) []string {
	for _, name := range []string{"status", "exit"} {
		if vault[name] != bailiff[name] {
			return []string{name}
		}
	}
	found := map[string]bool{}
	for _, sides := range [][2]seen{{vault, bailiff}, {bailiff, vault}} {
		for name, a := range sides[0] {
			b, ok := sides[1][name]
			switch {
			case !ok:
				found[part(sides[1], name)] = true
			case !sameField(name, a, b):
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// part is the largest part around a field of which an answer has nothing.
func part(answer seen, name string) string {
	for {
		i := strings.LastIndexByte(name, '.')
		if i < 0 || answer.some(name[:i]) {
			return name
		}
		name = name[:i]
	}
}

// some tells whether there is something of a part.
func (s seen) some(part string) bool {
	for name := range s {
		if name == part || strings.HasPrefix(name, part+".") {
			return true
		}
	}
	return false
}

// covers tells whether a pattern of the documentation is about a field.
func covers(pattern, field string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "…"); ok {
		return strings.HasPrefix(field, prefix)
	}
	if suffix, ok := strings.CutPrefix(pattern, "…"); ok {
		return strings.HasSuffix(field, suffix)
	}
	// Slashes and dots change places, so that a star is one name.
	swap := strings.NewReplacer("/", ".", ".", "/")
	ok, err := path.Match(swap.Replace(pattern), swap.Replace(field))
	return err == nil && ok
}
