package sqlite

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
)

const addClaim = "INSERT INTO token_claims (digest, token) VALUES (?, ?) ON CONFLICT DO NOTHING"

// addClaims notes the claims of the token that a lease was issued to, so that they find it.
func (x *tx) addClaims(l *broker.Lease) error {
	if l.Token == "" {
		return nil
	}
	for name, value := range l.Claims {
		if _, err := x.exec(addClaim, claimDigest(name, value), l.Token); err != nil {
			return err
		}
	}
	return nil
}

// claimed chooses the leases of tokens that have all of some claims.
func claimed(claims map[string]string) (term string, values []any) {
	sets := make([]string, 0, len(claims))
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		sets = append(sets, "SELECT token FROM token_claims WHERE digest = ?")
		values = append(values, claimDigest(name, claims[name]))
	}
	return "token <> '' AND token IN (" + strings.Join(sets, " INTERSECT ") + ")", values
}

// claimDigest stands for a claim, whatever its length.
func claimDigest(name, value string) []byte {
	sum := sha256.Sum256([]byte(name + "\x00" + value))
	return sum[:]
}

// claimText is what a lease's row holds of its claims.
func claimText(claims map[string]string) (string, error) {
	if len(claims) == 0 {
		return "", nil
	}
	text, err := json.Marshal(claims)
	return string(text), err
}

// claimsOf is claimText the other way.
func claimsOf(text []byte) (claims map[string]string, err error) {
	if len(text) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, fmt.Errorf("the claims of a lease can't be read: %w", err)
	}
	return claims, nil
}
