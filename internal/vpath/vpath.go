// Package vpath turns a request target into the one path that is judged and sent on.
//
// A path means one thing: it is decoded exactly once, and what could come to mean something else further on is refused
// and never cleaned. A canonical path is one to [MaxLen] bytes of valid UTF-8 without a leading or trailing slash. Its
// segments are not empty, not "." and not "..", and hold printable runes (unicode.IsPrint) other than the backslash.
// It may hold what looks like %-encoding only where that comes to a canonical path with the same slashes, however often
// somebody further on decodes it.
package vpath

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLen is the longest path in bytes, decoded.
const MaxLen = 2048

// OddError says why a path is refused. It does not repeat the path.
type OddError struct{ Why string }

func (e *OddError) Error() string { return "the path is not canonical: " + e.Why }

func odd(why string) error { return &OddError{Why: why} }

const tooLong = "it is longer than 2048 bytes"

// Parse decodes a request target behind "/v1/", without its query, exactly once: %2F is a slash. dir says that it ended
// in one slash, which path no longer does; only a list may. A target whose path is not canonical is an *OddError, which
// a door must answer with 400. Nothing is allocated where there is nothing to decode.
func Parse(escaped string) (path string, dir bool, err error) {
	if len(escaped) > 3*(MaxLen+1) {
		return "", false, odd(tooLong)
	}
	path = escaped
	if i := strings.IndexByte(escaped, '%'); i >= 0 {
		if path, err = decodeStrictly(escaped, i); err != nil {
			return "", false, err
		}
	}
	if strings.HasSuffix(path, "/") {
		path, dir = path[:len(path)-1], true
	}
	if err := Check(path); err != nil {
		return "", false, err
	}
	return path, dir, nil
}

// Check judges a path that is already decoded, such as a lease id in a body: nil where it is canonical, else an *OddError.
func Check(path string) error {
	if len(path) > MaxLen {
		return odd(tooLong)
	}
	if why := judge(path); why != "" {
		return odd(why)
	}
	if strings.IndexByte(path, '%') < 0 {
		return nil
	}
	return checkLayers(path)
}

// checkLayers decodes path as often as that changes it, and judges each result.
// The rounds end because each makes the path shorter.
func checkLayers(path string) error {
	b := []byte(path)
	for {
		n, ok := decodeLeniently(b)
		if !ok {
			return odd("a further layer of encoding hides a slash")
		}
		if n == len(b) {
			return nil
		}
		b = b[:n]
		if why := judge(string(b)); why != "" {
			return odd("behind a further layer of encoding " + why)
		}
	}
}

// judge says in words what is wrong with the runes and segments of a decoded path, or nothing.
func judge(path string) string {
	if path == "" {
		return "it is empty"
	}
	start := 0 // of the segment
	for i := 0; i < len(path); {
		c := path[i]
		switch {
		case c == '/':
			if why := judgeSegment(path[start:i]); why != "" {
				return why
			}
			start = i + 1
		case c == '\\':
			return "it holds a backslash"
		case c < ' ' || c == 0x7f:
			return "it holds a control character"
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(path[i:])
			if r == utf8.RuneError && n == 1 {
				return "it is not valid UTF-8"
			}
			if !unicode.IsPrint(r) {
				return "it holds a character that is not printable"
			}
			i += n
			continue
		}
		i++
	}
	return judgeSegment(path[start:])
}

func judgeSegment(s string) string {
	switch s {
	case "":
		return "it has an empty segment"
	case ".", "..":
		return "it has a segment of dots"
	}
	return ""
}

// decodeStrictly decodes escaped, whose first % is at i. Each % must begin a valid escape.
func decodeStrictly(escaped string, i int) (string, error) {
	b := make([]byte, 0, len(escaped))
	for {
		b = append(b, escaped[:i]...)
		escaped = escaped[i:]
		if escaped == "" {
			return string(b), nil
		}
		c, ok := unhex(escaped)
		if !ok {
			return "", odd("a % does not begin a valid escape")
		}
		b = append(b, c)
		escaped = escaped[3:]
		if i = strings.IndexByte(escaped, '%'); i < 0 {
			i = len(escaped)
		}
	}
}

// decodeLeniently decodes b in place as the most forgiving reader would, leaving each % that begins no valid escape as it
// is, and returns the new length. It is not ok where that would make a slash.
func decodeLeniently(b []byte) (n int, ok bool) {
	for i := 0; i < len(b); n++ {
		c, valid := unhex(b[i:])
		switch {
		case !valid:
			b[n] = b[i]
			i++
		case c == '/':
			return 0, false
		default:
			b[n] = c
			i += 3
		}
	}
	return n, true
}

// unhex decodes the %-escape at the start of s.
func unhex[T string | []byte](s T) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, ok1 := nibble(s[1])
	low, ok2 := nibble(s[2])
	return high<<4 | low, ok1 && ok2
}

func nibble(c byte) (n byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// Escape is the one encoding in which a canonical path is sent on: Parse(Escape(p)) is p for every canonical p. It leaves
// slashes and RFC 3986's unreserved characters as they are, and nothing is allocated where it need not change anything.
func Escape(path string) string {
	n := 0
	for i := 0; i < len(path); i++ {
		if !plain(path[i]) {
			n++
		}
	}
	if n == 0 {
		return path
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(path)+2*n)
	for i := 0; i < len(path); i++ {
		if c := path[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '/' || c == '-' || c == '.' || c == '_' || c == '~'
}
