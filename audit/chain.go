package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Hash is a chain hash. As text it is 64 hex digits.
type Hash [sha256.Size]byte

// String is h in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is h in hex.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("a chain hash has %d hex digits, not %d", 2*len(h), len(text))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fmt.Errorf("chain hash: %w", err)
	}
	return nil
}

// Head is the end of a log: the sequence number of its last record and the chain hash of it. A log without records has
// sequence number 0. Noted outside of the log's reach, it proves later that nothing was cut or written anew.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash Hash   `json:"hash"`
}

// String is the head as ParseHead reads it: "42:9f86…".
func (h Head) String() string { return strconv.FormatUint(h.Seq, 10) + ":" + h.Hash.String() }

// ParseHead reads what Head.String gave.
func ParseHead(s string) (Head, error) {
	var h Head
	seq, sum, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok {
		return Head{}, fmt.Errorf("head %q: want a sequence number, a colon and a chain hash", s)
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("head %q: %w", s, err)
	}
	h.Seq = n
	if err := h.Hash.UnmarshalText([]byte(sum)); err != nil {
		return Head{}, fmt.Errorf("head %q: %w", s, err)
	}
	return h, nil
}

// seed is the chain hash before record 1.
func seed() Hash { return sha256.Sum256([]byte("bailiff audit chain v1\n")) }

// linker computes chain hashes one after another, without allocating.
type linker struct {
	h   hash.Hash
	sum Hash
}

func newLinker() *linker { return &linker{h: sha256.New()} }

// link is the chain hash of rec when prev is that of the record before it.
func (l *linker) link(prev *Hash, rec []byte) Hash {
	l.h.Reset()
	l.h.Write(prev[:])
	l.h.Write(rec)
	l.h.Sum(l.sum[:0])
	return l.sum
}
