package upstream

import (
	"bufio"
	"io"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Plain is what plainHead makes of text: the status, the length and the headers of use, and what is left unread.
func Plain(text string) (code int, length int64, kept []gate.Field, rest string, ok bool) {
	br := bufio.NewReaderSize(strings.NewReader(text), bufSize)
	a := &answer{}
	a.kept = a.room.kept[:0]
	ok = plainHead(br, a)
	b, err := io.ReadAll(br)
	if err != nil {
		panic(err)
	}
	return a.code, a.length, a.kept, string(b), ok
}
