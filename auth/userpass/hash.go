package userpass

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a hash, which is what OWASP asks of argon2id at least: 19 MiB, two passes, one lane.
const (
	memory = 19 << 10 // KiB
	passes = 2
	lanes  = 1
	length = 32
)

// hasher hashes passwords, a few at a time: each takes memory, and everybody may ask for one.
type hasher struct {
	places chan struct{}
	nobody string // a hash that no password has
}

func newHasher() *hasher {
	h := &hasher{places: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	h.nobody = encode(random(16), make([]byte, length))
	return h
}

// take waits for a place.
func (h *hasher) take(ctx context.Context) error {
	select {
	case h.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) leave() { <-h.places }

// hash makes a hash of a password, in the usual form of argon2 hashes.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.take(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := random(16)
	return encode(salt, argon2.IDKey([]byte(password), salt, passes, memory, lanes, length)), nil
}

// matches tells whether a password has a hash.
func (h *hasher) matches(ctx context.Context, hash, password string) (bool, error) {
	c, err := decode(hash)
	if err != nil {
		return false, err
	}
	if err := h.take(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	sum := argon2.IDKey([]byte(password), c.salt, c.passes, c.memory, c.lanes, uint32(len(c.sum)))
	return subtle.ConstantTimeCompare(sum, c.sum) == 1, nil
}

type parts struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

func encode(salt, sum []byte) string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, lanes, b.EncodeToString(salt), b.EncodeToString(sum))
}

// errHash is a hash that can't be read: the store holds what it shouldn't.
var errHash = errors.New("the hash of a password can't be read")

func decode(hash string) (parts, error) {
	p := strings.Split(hash, "$")
	if len(p) != 6 || p[1] != "argon2id" || p[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return parts{}, errHash
	}
	var out parts
	if n, err := fmt.Sscanf(p[3], "m=%d,t=%d,p=%d", &out.memory, &out.passes, &out.lanes); n != 3 || err != nil {
		return parts{}, errHash
	}
	var err1, err2 error
	out.salt, err1 = base64.RawStdEncoding.DecodeString(p[4])
	out.sum, err2 = base64.RawStdEncoding.DecodeString(p[5])
	if err1 != nil || err2 != nil || len(out.sum) < 16 || out.passes == 0 || out.lanes == 0 || out.memory > 1<<21 {
		return parts{}, errHash
	}
	return out, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails: see crypto/rand
	return b
}
