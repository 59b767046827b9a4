package object

// Action is what a Step does.
type Action string

// The actions.
const (
	Created   Action = "create"
	Updated   Action = "update"
	Deleted   Action = "delete"
	Unchanged Action = "unchanged"
)

// FieldChange is one field of a Step. Old and New are JSON texts; of a secret they are only "[redacted]" or empty.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Step is what an apply would do, or did, to one object.
type Step struct {
	Action  Action        `json:"action"`
	Kind    Kind          `json:"kind"`
	Name    string        `json:"name"`
	Version int64         `json:"version"` // the version that stands now (before the change); 0: there is none
	Changes []FieldChange `json:"changes,omitempty"`
}

// Plan is what an apply would do, in the order in which it does it.
type Plan struct {
	Steps    []Step   `json:"steps"`
	Warnings []string `json:"warnings,omitempty"`
}
