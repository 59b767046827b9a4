package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

const (
	tokenPrefix = "bt_"
	tokenBody   = 52 // letters: 256 random bits
	tokenSum    = 7  // letters: CRC-32, so that scanners can tell a token from noise
	tokenLen    = len(tokenPrefix) + tokenBody + tokenSum

	accessorBytes = 15 // 24 letters
)

// tokenHash is what is kept of a token.
type tokenHash [sha256.Size]byte

func (h tokenHash) key() string { return hex.EncodeToString(h[:]) }

// parseHash reads what key wrote.
func parseHash(key string) (h tokenHash, ok bool) {
	if len(key) != hex.EncodedLen(len(h)) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(key))
	return h, err == nil
}

// hashOf is the hash of a presented token; it allocates nothing.
func hashOf(text string) tokenHash {
	var buf [maxToken]byte
	return sha256.Sum256(buf[:copy(buf[:], text)])
}

// newTokenText makes a token: 256 random bits, which need no salt.
func newTokenText() (secret.Value, tokenHash) {
	body := randomLetters(32)
	text := tokenPrefix + body + checksum(body)
	return secret.New(text), hashOf(text)
}

// LooksLikeToken reports whether text has the form of a service token, checksum included: for secret scanners.
func LooksLikeToken(text string) bool {
	body, ok := strings.CutPrefix(text, tokenPrefix)
	return ok && len(text) == tokenLen && checksum(body[:tokenBody]) == body[tokenBody:]
}

// newAccessor makes what stands for a token in records and answers.
func newAccessor() string { return randomLetters(accessorBytes) }
