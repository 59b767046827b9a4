package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Sys asks for one of the target's own sys paths, "mounts/x", with Bailiff's login. What may be asked for is the caller's
// business. A refusal of the target is a *gate.Error with the target's words.
func (v *Vault) Sys(ctx context.Context, method, path string, in map[string]any) error {
	k := &call{method: method, path: "sys/" + path}
	if in != nil {
		var err error
		if k, err = leaseCall("sys/"+path, in); err != nil {
			return err
		}
		k.method = method
	}
	a, err := v.send(ctx, k)
	if err != nil {
		return err
	}
	b, err := drain(a, maxOwnAnswer)
	if err != nil {
		return v.client.down("broke off or answered too much", err)
	}
	if a.code < 300 {
		return nil
	}
	var e struct {
		Errors []string `json:"errors"`
	}
	words := "target " + v.name + " answered with status " + http.StatusText(a.code)
	if json.Unmarshal(b, &e) == nil && len(e.Errors) > 0 {
		words = strings.Join(e.Errors, "; ")
	}
	kind := gate.Invalid
	switch {
	case a.code == http.StatusForbidden:
		return gate.Errorf(gate.Forbidden, "target %s does not let Bailiff's login do that", v.name)
	case a.code == http.StatusNotFound:
		kind = gate.NotFound
	case a.code >= 500:
		kind = gate.TargetDown
	}
	return &gate.Error{Kind: kind, Msg: words}
}
