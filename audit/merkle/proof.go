package merkle

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// proofHead is the first line of a proof, as C2SP tlog-proof has it.
const proofHead = "c2sp.org/tlog-proof@v1"

// maxProof is how many bytes a proof may have: a record, sixty hashes and a checkpoint.
const maxProof = 4 << 20

// Proof shows to whoever has the public key that a record is in a log.
type Proof struct {
	Record     []byte // the bytes of the record
	Index      int64  // the record's sequence number less one
	Hashes     tlog.RecordProof
	Checkpoint []byte // signed
}

// Text is the proof as a file in the form of C2SP tlog-proof, with the record in its "extra" line.
func (p *Proof) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofHead, base64.StdEncoding.EncodeToString(p.Record), p.Index)
	for _, h := range p.Hashes {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(h[:]))
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads what Text wrote. It proves nothing: see Check.
func ParseProof(text []byte) (*Proof, error) {
	if len(text) > maxProof {
		return nil, fmt.Errorf("the proof has %d bytes, more than %d", len(text), maxProof)
	}
	head, checkpoint, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		return nil, errors.New("the proof has no checkpoint")
	}
	p := &Proof{Checkpoint: checkpoint}
	in := bufio.NewScanner(bytes.NewReader(head))
	in.Buffer(nil, maxProof)
	line := func() string {
		if in.Scan() {
			return in.Text()
		}
		return ""
	}
	if got := line(); got != proofHead {
		return nil, fmt.Errorf("the proof begins with %q, not %q", cut(got), proofHead)
	}
	extra, ok := strings.CutPrefix(line(), "extra ")
	if !ok {
		return nil, errors.New("the proof has no record")
	}
	var err error
	if p.Record, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil {
		return nil, fmt.Errorf("the record of the proof: %w", err)
	}
	index, ok := strings.CutPrefix(line(), "index ")
	if p.Index, err = strconv.ParseInt(index, 10, 64); !ok || err != nil || p.Index < 0 {
		return nil, errors.New("the proof has no index")
	}
	for in.Scan() {
		h, err := tlog.ParseHash(in.Text())
		if err != nil {
			return nil, fmt.Errorf("a hash of the proof: %w", err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, in.Err()
}

// Check says whether the proof holds: the record is the one at its index in the log that key has signed for.
func (p *Proof) Check(key note.Verifier) (Checkpoint, error) {
	c, err := ParseCheckpoint(p.Checkpoint, key)
	if err != nil {
		return Checkpoint{}, err
	}
	if p.Index >= c.Size {
		return Checkpoint{}, fmt.Errorf("record %d is not among the %d that were signed for", p.Index+1, c.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(p.Record)); err != nil {
		return Checkpoint{}, fmt.Errorf("the record is not the one that was signed for: %w", err)
	}
	return c, nil
}

func cut(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}
