package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"

	passwordLength = 24 // log2(62) × 24 = 142 bits
)

// newPassword is 142 random bits in letters and digits, with at least one of each sort: password checks on servers ask for
// that.
func newPassword() string {
	const alphabet = upper + lower + digits
	for {
		out := make([]byte, 0, passwordLength)
		var buf [passwordLength]byte
		for len(out) < passwordLength {
			rand.Read(buf[:]) // never fails: the runtime ends the process where there is no randomness
			for _, x := range buf {
				if x &= 63; int(x) < len(alphabet) && len(out) < passwordLength {
					out = append(out, alphabet[x])
				}
			}
		}
		if s := string(out); strings.ContainsAny(s, upper) && strings.ContainsAny(s, lower) && strings.ContainsAny(s, digits) {
			return s
		}
	}
}

// verifier is what PostgreSQL keeps of a password (RFC 5802, RFC 7677). Sent in the password's place, it keeps the password
// out of the server's log and the rounds off the server's processor.
func verifier(password string, iterations int) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("computing the password's verifier: %w", err)
	}
	storedKey := sha256.Sum256(mac(salted, "Client Key"))
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, enc(salt), enc(storedKey[:]), enc(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
