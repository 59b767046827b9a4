// Package vpath turns a request target into the one path that is judged and sent on.
package vpath

// The contract of this package:
//
//	Parse(escaped string) (path string, dir bool, err error)
//	    escaped is the raw request target behind "/v1/" without the query. It is decoded exactly once (%2F is a slash).
//	    dir says that it ended in one slash, which path no longer does: only a list may. A path that is not canonical after
//	    decoding is an *OddError and must be answered with 400: empty, an empty segment, ".", "..", a backslash, NUL or any
//	    other rune that is not printable (unicode.IsPrint), invalid or overlong UTF-8, more than MaxLen bytes, a bad %-escape,
//	    or a further layer of %-encoding which, decoded as often as it can be, would come to one of these or to a slash.
//	Check(path string) error
//	    the same judgement of a path that is already decoded (a USC secret id, a lease id in a body).
//	Escape(path string) string
//	    the one encoding in which a canonical path is sent on; Parse(Escape(p)) == p for every canonical p.
//	MaxLen = 2048

// MaxLen is the longest path in bytes, decoded.
const MaxLen = 2048

// OddError says why a path is refused. It does not repeat the path.
type OddError struct{ Why string }

func (e *OddError) Error() string { return "the path is not canonical: " + e.Why }
