package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"regexp"
	"strings"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// randomBase62 is n letters, each of the 62 as likely as the others.
func randomBase62(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		rand.Read(buf[:]) // never fails: the runtime ends the process where there is no randomness
		for _, x := range buf {
			if x &= 63; int(x) < len(base62) && len(out) < n {
				out = append(out, base62[x])
			}
		}
	}
	return string(out)
}

// randomBase32 is 80 random bits in 16 lower-case letters and digits.
func randomBase32() string {
	var buf [10]byte
	rand.Read(buf[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(buf[:]))
}

// principal is the name of a new credential on its target: bl-<role8>-<16 letters><4 letters of check>, or what the producer
// makes of a role and the 16 letters.
func (b *Broker) principal(p Producer, role Role) string {
	random := randomBase32()
	if n, ok := p.(Namer); ok {
		return n.Name(role, random)
	}
	return b.checked("bl-" + role8(role.Name) + "-" + random)
}

// checkLetters is the length of a name's check: 20 bits, by which somebody else's account that looks like ours is told.
const checkLetters = 4

// checked is stem with its check, where there is a key.
func (b *Broker) checked(stem string) string {
	if len(b.cfg.NameKey) == 0 {
		return stem
	}
	mac := hmac.New(sha256.New, b.cfg.NameKey)
	mac.Write([]byte(stem))
	sum := strings.ToLower(base32.StdEncoding.EncodeToString(mac.Sum(nil)))
	return stem + sum[:checkLetters]
}

// checkedForm is the form of names that have a check.
var checkedForm = regexp.MustCompile(`^bl-[a-z0-9]{1,8}-[a-z2-7]{20}$`)

// proven says that a name was made with this broker's key. A name without a check proves nothing.
func (b *Broker) proven(name string) bool {
	if len(b.cfg.NameKey) == 0 || !checkedForm.MatchString(name) {
		return false
	}
	return hmac.Equal([]byte(name), []byte(b.checked(name[:len(name)-checkLetters])))
}

// role8 is the first eight letters and digits of a role's name in lower case, for people who look at the target.
func role8(name string) string {
	out := make([]byte, 0, 8)
	for i := 0; i < len(name) && len(out) < 8; i++ {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			out = append(out, c)
		case 'A' <= c && c <= 'Z':
			out = append(out, c+'a'-'A')
		}
	}
	if len(out) == 0 {
		return "role"
	}
	return string(out)
}
