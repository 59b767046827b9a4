package document

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// The largest that a store takes, in bytes.
const (
	MaxSpace = 32
	MaxKey   = 1024 // also of a value in Keys
	MaxName  = 64   // of a name in Keys
	MaxBody  = 32 << 20
)

// Kept is how long a removed document is told of at least.
const Kept = 10 * time.Minute

// Check says what is wrong with the form of a change. What it says repeats nothing of the document but its Space.
func (c *Change) Check() error {
	switch {
	case !wellFormed(c.Space):
		return fmt.Errorf("a document's space is 1 to %d lower-case letters and hyphens", MaxSpace)
	case c.Key == "" || len(c.Key) > MaxKey || !utf8.ValidString(c.Key):
		return fmt.Errorf("the key of a document in %q must be 1 to %d bytes of UTF-8", c.Space, MaxKey)
	case len(c.Body) > MaxBody:
		return fmt.Errorf("a document in %q is larger than %d bytes", c.Space, MaxBody)
	case c.Version < 0:
		return errors.New("a document's version can't be below zero")
	}
	for name, value := range c.Keys {
		if name == "" || len(name) > MaxName || len(value) > MaxKey || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return fmt.Errorf("what a document in %q is found by must be UTF-8, its name at most %d bytes and its value %d", c.Space, MaxName, MaxKey)
		}
	}
	return nil
}

func wellFormed(space string) bool {
	if space == "" || len(space) > MaxSpace {
		return false
	}
	for _, c := range []byte(space) {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// Place is what a document's body is sealed for. No space has a bar in it, so no two documents share one.
func (d *Document) Place() string { return "documents|" + d.Space + "|" + d.Key }

// After is the first key behind all those that begin with prefix, which is not empty: none is as large.
func After(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++ // no byte of UTF-8 is 255
	return end
}
