package postgres

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// statements splits each text into its statements, at every semicolon that stands outside of quotes and comments.
func statements(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		list, err := split(text)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// split splits one text. Placeholders are still in it: a value can't move a boundary.
func split(text string) ([]string, error) {
	var out []string
	begin, blank := 0, true // blank: nothing but spaces and comments since begin
	for i := 0; i < len(text); {
		n, err := token(text, i)
		if err != nil {
			return nil, err
		}
		switch t := text[i : i+n]; {
		case t == ";":
			if !blank {
				out = append(out, strings.TrimSpace(text[begin:i]))
			}
			begin, blank = i+1, true
		case strings.TrimSpace(t) != "" && !strings.HasPrefix(t, "--") && !strings.HasPrefix(t, "/*"):
			blank = false
		}
		i += n
	}
	if !blank {
		out = append(out, strings.TrimSpace(text[begin:]))
	}
	return out, nil
}

var dollarTag = regexp.MustCompile(`^\$([A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$`)

// token is the length of what begins at text[i]: a quoted thing or a comment as a whole, a word, or one other byte.
func token(text string, i int) (int, error) {
	rest := text[i:]
	switch {
	case rest[0] == '\'':
		return quotedLen(rest, '\'', false)
	case rest[0] == '"':
		return quotedLen(rest, '"', false)
	case (rest[0] == 'e' || rest[0] == 'E') && len(rest) > 1 && rest[1] == '\'':
		n, err := quotedLen(rest[1:], '\'', true)
		return n + 1, err
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return n, nil
		}
		return len(rest), nil
	case strings.HasPrefix(rest, "/*"):
		return commentLen(rest)
	case rest[0] == '$':
		tag := dollarTag.FindString(rest)
		if tag == "" {
			return 1, nil
		}
		n := strings.Index(rest[len(tag):], tag)
		if n < 0 {
			return 0, errors.New("a dollar-quoted text has no end")
		}
		return n + 2*len(tag), nil
	case isWord(rest[0]): // whole, so that neither the e of "name'" nor the $ of "a$b$" begins a quote
		n := 1
		for n < len(rest) && (isWord(rest[n]) || rest[n] == '$') {
			n++
		}
		return n, nil
	}
	return 1, nil
}

func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// quotedLen is the length of a text in quotes, in which a doubled quote stands for one.
func quotedLen(s string, quote byte, backslash bool) (int, error) {
	for i := 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1, nil
		}
	}
	return 0, errors.New("a quoted text has no end")
}

// commentLen is the length of a comment; they nest.
func commentLen(s string) (int, error) {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, errors.New("a comment has no end")
}

// values are what placeholders stand for. Each has an alphabet without anything that means something inside of SQL quotes.
type values struct {
	name, password string
	expiration     time.Time
}

var (
	passwordForm = regexp.MustCompile(`^[A-Za-z0-9]{20,}$`)
	verifierForm = regexp.MustCompile(`^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$`)
)

// replacer checks the values and returns what puts them into a statement.
func (v values) replacer() (*strings.Replacer, error) {
	if err := checkName(v.name); err != nil {
		return nil, err
	}
	if v.password != "" && !passwordForm.MatchString(v.password) && !verifierForm.MatchString(v.password) {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "the password has letters that are not safe in SQL"}
	}
	return strings.NewReplacer("{{name}}", v.name, "{{username}}", v.name, "{{password}}", v.password,
		"{{expiration}}", timestamp(v.expiration)), nil
}

// timestamp is t as PostgreSQL reads it, whatever its DateStyle and time zone.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000+00") }
