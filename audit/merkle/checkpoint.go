package merkle

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is what a signature of a log stands for.
type Checkpoint struct {
	Origin string // whose log
	Size   int64  // how many records
	Root   tlog.Hash
}

// text is the body of the note, as C2SP tlog-checkpoint has it.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// sign makes the note of a checkpoint.
func (c Checkpoint) sign(by note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text()}, by)
}

// ErrSignature means that a checkpoint was not signed with the key that was given.
var ErrSignature = errors.New("the checkpoint is not signed with this key")

// ParseCheckpoint reads a checkpoint that must be signed by key. What else has signed it doesn't count.
func ParseCheckpoint(signed []byte, key note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 {
		return Checkpoint{}, errors.New("the checkpoint has too few lines")
	}
	c := Checkpoint{Origin: lines[0]}
	if c.Origin != key.Name() {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of the log %q, not of %q", c.Origin, key.Name())
	}
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || lines[1] != strconv.FormatInt(c.Size, 10) {
		return Checkpoint{}, fmt.Errorf("the checkpoint's size %q is not a number of records", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return Checkpoint{}, errors.New("the checkpoint's root is not a hash")
	}
	copy(c.Root[:], root)
	return c, nil
}

// Key is a public key as text: "name+0123abcd+base64", as golang.org/x/mod/sumdb/note has it.
func Key(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("the public key of an audit log: %w", err)
	}
	return v, nil
}

// Origin makes the name of a node's log out of what the node is called: spaces and "+" can't be in one.
func Origin(node string) string {
	clean := strings.Map(func(r rune) rune {
		if r <= ' ' || r == '+' || r > '~' {
			return '-'
		}
		return r
	}, node)
	return "bailiff/" + clean
}
