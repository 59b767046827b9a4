package jwt

import (
	"maps"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
)

// preset is what is known of an issuer.
type preset struct {
	issuer   string
	id       string   // the claim that stays the same when a name is taken over by somebody else
	names    []string // claims that name the same thing and can be taken over
	mappings []string // claims that are kept as metadata
}

func presets() map[string]preset {
	return map[string]preset{
		"github-actions": {
			issuer: "https://token.actions.githubusercontent.com", id: "repository_id", names: []string{"repository", "sub"},
			mappings: []string{"repository", "repository_owner_id", "ref", "environment", "workflow", "job_workflow_ref", "run_id", "actor_id", "event_name"},
		},
		"gitlab-ci": {
			issuer: "https://gitlab.com", id: "project_id", names: []string{"project_path", "sub"},
			mappings: []string{"project_path", "namespace_id", "ref", "ref_type", "ref_protected", "environment", "pipeline_id", "job_id", "user_id"},
		},
	}
}

func presetNames() string { return strings.Join(slices.Sorted(maps.Keys(presets())), ", ") }

// usePreset fills in what a preset knows, and refuses a role that anybody could come to fit.
func (r *role) usePreset() error {
	if r.Preset == "" {
		return nil
	}
	p, ok := presets()[r.Preset]
	if !ok {
		return auth.Invalid("there is no preset %q: use %s", r.Preset, presetNames())
	}
	if r.UserClaim == "" {
		r.UserClaim = p.id
	}
	if r.Mappings == nil {
		r.Mappings = map[string]string{}
		for _, name := range p.mappings {
			r.Mappings[name] = name
		}
	}
	ids, isText := texts(r.Claims[p.id])
	switch {
	case r.Claims[p.id] == nil || !isText || len(ids) == 0:
		return auth.Invalid("a role with the preset %s must bind the claim %s: names such as %s can be taken over by somebody else",
			r.Preset, p.id, strings.Join(p.names, " and "))
	case r.ClaimsType == "glob" && slices.ContainsFunc(ids, func(s string) bool { return strings.Contains(s, "*") }):
		return auth.Invalid("the claim %s must be bound to ids and not to patterns", p.id)
	case len(r.Audiences) == 0:
		return auth.Invalid("a role with the preset %s must bind an audience of your own: bound_audiences", r.Preset)
	case slices.ContainsFunc(p.names, func(name string) bool { return name == r.UserClaim }):
		return auth.Invalid("user_claim must not be %s, which can be taken over by somebody else: use %s", r.UserClaim, p.id)
	}
	return nil
}
