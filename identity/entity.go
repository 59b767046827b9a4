package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Entity is one person, service or machine, by whichever ways it logs in. What a reader holds never changes.
type Entity struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"` // unique, whatever its case; also among declared identities
	Policies []string          `json:"policies,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
	Created  time.Time         `json:"created"`
	Updated  time.Time         `json:"updated"`
	Merged   []string          `json:"merged,omitempty"` // ids of those that were merged into it

	// Outside are the groups that auth methods put it in at its last login there, as far as there is a group for them: by the
	// mount's accessor, as the outside names them.
	Outside map[string][]string `json:"outside,omitempty"`

	Declared bool `json:"-"` // it stands in files, and is not changed here
}

// Alias is an entity's name at one auth mount, or what a group is called there.
type Alias struct {
	ID       string            `json:"id"`
	Of       string            `json:"of"` // of the entity or the group
	Name     string            `json:"name"`
	Accessor string            `json:"accessor"` // of the mount
	Path     string            `json:"path"`     // of the mount: "auth/approle/"
	Type     string            `json:"type"`     // of the mount: "approle"
	Metadata map[string]string `json:"metadata,omitempty"`
	Custom   map[string]string `json:"custom,omitempty"` // what people set; a login leaves it
	Created  time.Time         `json:"created"`
	Updated  time.Time         `json:"updated"`
	Merged   []string          `json:"merged,omitempty"` // ids of the entities that it came from by merging

	Declared bool `json:"-"`
}

// Group is a set of entities and groups, or (External) those whom an auth method says to be in it.
type Group struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"` // unique, whatever its case
	External bool              `json:"external,omitempty"`
	Policies []string          `json:"policies,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Entities []string          `json:"entities,omitempty"` // ids of its members; of an external one nobody keeps them
	Groups   []string          `json:"groups,omitempty"`   // ids of groups whose members are its own
	Created  time.Time         `json:"created"`
	Updated  time.Time         `json:"updated"`
}

// The spaces of documents.
const (
	spaceEntity     = "entity"
	spaceEntityName = "entity-name"
	spaceAlias      = "entity-alias"
	spaceGroup      = "group"
	spaceGroupName  = "group-name"
	spaceGroupAlias = "group-alias"
)

// aliasKey is the key of an alias's document: unique, whatever the case of the name, as in Vault.
func aliasKey(accessor, name string) string { return accessor + "/" + longKey(strings.ToLower(name)) }

// nameKey is the key of the document that keeps a name taken.
func nameKey(name string) string { return longKey(strings.ToLower(name)) }

// longKey is s, or its hash where it is too long for a key.
func longKey(s string) string {
	if len(s) <= document.MaxKey/2 && s != "" && !strings.HasPrefix(s, "sha256:") {
		return s
	}
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

// EntityIDOf is the id of the entity that a declared identity is.
func EntityIDOf(accessID string) string { return idFrom("entity|" + accessID) }

// idFrom makes an id in the form of a UUID of words.
func idFrom(words string) string {
	h := sha256.Sum256([]byte(words))
	return uuidOf(h[:16])
}

// newID is 122 random bits in the form of a UUID.
func newID() string {
	var b [16]byte
	random(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuidOf(b[:])
}

func uuidOf(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
