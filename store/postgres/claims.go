package postgres

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
)

// addClaims notes the claims of the tokens that leases were issued to, in one order, so that two transactions don't wait for
// each other.
const addClaims = `INSERT INTO token_claims (digest, token)
SELECT DISTINCT digest, token FROM unnest($1::bytea[], $2::text[]) AS v (digest, token) ORDER BY token, digest ON CONFLICT DO NOTHING`

// claimRows are the rows of addClaims for the leases of a group that are new or leave the pool.
func claimRows(group []*op) (digests [][]byte, tokens []string) {
	for _, o := range group {
		if o.claims == "" || o.lease.Token == "" || !o.isNew && !slices.Contains(o.from, broker.Pooled) {
			continue
		}
		for name, value := range o.lease.Claims {
			digests, tokens = append(digests, claimDigest(name, value)), append(tokens, o.lease.Token)
		}
	}
	return digests, tokens
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
	clean := make(map[string]string, len(claims))
	for name, value := range claims {
		clean[plain(name)] = plain(value)
	}
	text, err := json.Marshal(clean)
	return string(text), err
}

// claimsOf is claimText the other way.
func claimsOf(text string) (claims map[string]string, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		return nil, fmt.Errorf("the claims of a lease can't be read: %w", err)
	}
	return claims, nil
}
