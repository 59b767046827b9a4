package broker

import (
	"crypto/rand"
	"encoding/base32"
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

// principal is the name of a new credential on its target: bl-<role8>-<16 letters>, or what the producer makes of them.
func principal(p Producer, role Role) string {
	random := randomBase32()
	if n, ok := p.(Namer); ok {
		return n.Name(role, random)
	}
	return "bl-" + role8(role.Name) + "-" + random
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
