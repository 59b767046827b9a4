package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// SignatureHeader holds "t=<seconds since 1970>,v1=<hex of HMAC-SHA256>". What is signed is the time as it stands there, a
// dot, and the body byte for byte; the key is the webhook's secret.
const SignatureHeader = "Bailiff-Signature"

// ErrSignature means that a body was not signed with the secret, or too long ago.
var ErrSignature = errors.New("the signature does not hold")

func sign(key secret.Value, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(key.Reveal(), t, body))
}

func mac(key, t string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(t + "."))
	h.Write(body)
	return h.Sum(nil)
}

// Verify is what a receiver does: it checks a SignatureHeader against the body, and that it was signed within tolerance of
// now. The error is ErrSignature.
func Verify(key, header string, body []byte, now time.Time, tolerance time.Duration) error {
	var t, v1 string
	for part := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			t = value
		case "v1":
			v1 = value
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	got, err2 := hex.DecodeString(v1)
	if err != nil || err2 != nil || !hmac.Equal(got, mac(key, t, body)) {
		return ErrSignature
	}
	if d := now.Sub(time.Unix(seconds, 0)); d > tolerance || d < -tolerance {
		return ErrSignature
	}
	return nil
}
