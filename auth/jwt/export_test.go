package jwt

import "context"

// Verifies tells whether a token is signed by one of keys.
func Verifies(ctx context.Context, keys []string, token string) bool {
	_, err := newSource(&config{PublicKeys: keys}).verify(ctx, token)
	return err == nil
}

// Look does with claims all that a login does.
func Look(text string) {
	c, err := parseClaims([]byte(text))
	if err != nil {
		return
	}
	r := role{UserClaim: "sub", GroupsClaim: "/groups", Mappings: map[string]string{"/x/y/0": "z"}, Audiences: []string{"v"}}
	_ = c.checkTimes(leeways{})
	_ = c.checkAudience(r.Audiences)
	_ = c.checkBound(map[string]any{"sub": "a*", "/x/y": []any{"b"}}, true)
	_, _ = r.admit("r", c)
	_ = c.decisive()
}
