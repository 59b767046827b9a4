package hvp

import (
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// authBody is a new token as Vault shows it; its fields stand in Vault's order.
type authBody struct {
	ClientToken      string            `json:"client_token"`
	Accessor         string            `json:"accessor"`
	Policies         []string          `json:"policies"`
	TokenPolicies    []string          `json:"token_policies,omitempty"`
	IdentityPolicies []string          `json:"identity_policies,omitempty"`
	Metadata         map[string]string `json:"metadata"`
	LeaseDuration    int64             `json:"lease_duration"`
	Renewable        bool              `json:"renewable"`
	EntityID         string            `json:"entity_id"`
	TokenType        string            `json:"token_type"`
	Orphan           bool              `json:"orphan"`
	MFARequirement   *struct{}         `json:"mfa_requirement"`
	NumUses          int               `json:"num_uses"`
}

func authOf(a *gate.Auth) *authBody {
	if a == nil {
		return nil
	}
	return &authBody{
		ClientToken: a.ClientToken.Reveal(), Accessor: a.Accessor, Policies: a.Policies, TokenPolicies: a.TokenPolicies,
		IdentityPolicies: a.IdentityPolicies, Metadata: a.Metadata, LeaseDuration: int64(a.LeaseDuration / time.Second),
		Renewable: a.Renewable, EntityID: a.EntityID, TokenType: a.TokenType, Orphan: a.Orphan, NumUses: a.NumUses,
	}
}
