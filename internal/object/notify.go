package object

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// The events of leases that a Notify may name.
const (
	EventExpiring = "lease.expiring"           // it comes to its end
	EventRevoked  = "lease.revoked"            // its credential is gone
	EventFailing  = "lease.revocation-failing" // its credential could not be ended so far
	EventGivenUp  = "lease.given-up"           // a person gave it up: its credential may still be alive
)

// NotifyEvents lists every event that a Notify may name.
func NotifyEvents() []string {
	return []string{EventExpiring, EventRevoked, EventFailing, EventGivenUp}
}

// Notify is a webhook: where the events of which leases are told.
type Notify struct {
	Name       string       `json:"name"`
	URL        string       `json:"url"` // http or https, without a user
	Secret     secret.Value `json:"-"`   // signs what is sent
	Events     []string     `json:"events,omitempty"`
	Before     Duration     `json:"before,omitzero"`      // the lease's end: when lease.expiring is told
	Mounts     []string     `json:"mounts,omitempty"`     // "database"; empty: every one
	Roles      []string     `json:"roles,omitempty"`      // "database/readonly"; empty: every one
	Identities []string     `json:"identities,omitempty"` // empty: every one
	CACert     string       `json:"ca_cert,omitempty"`    // PEM; empty: the system's
}

// minNotifySecret is how long the secret of a webhook is at least, in bytes.
const minNotifySecret = 16

// maxBefore is the longest time before a lease's end at which it may be told of.
const maxBefore = 30 * 24 * time.Hour

func (c *checker) notify(n *Notify) {
	c.name("name", n.Name)
	c.webhook(n.URL)
	c.needed(SecretNotify, !n.Secret.Empty(), `write secret = env("…"): it signs what is sent`)
	if s := n.Secret.Reveal(); s != "" && len(s) < minNotifySecret {
		c.bad(SecretNotify, "it is shorter than 16 bytes", "use 32 random ones: openssl rand -hex 32")
	}
	c.list("events", n.Events)
	c.needed("events", len(n.Events) > 0, `write ["lease.revocation-failing"]`)
	for _, e := range n.Events {
		if !slices.Contains(NotifyEvents(), e) {
			c.bad("events", fmt.Sprintf("there is no event %.40q", e), "use "+strings.Join(NotifyEvents(), ", "))
		}
	}
	c.before(n)
	for field, list := range map[string][]string{"mounts": n.Mounts, "roles": n.Roles} {
		c.list(field, list)
		for _, path := range list {
			c.path(field, path)
		}
	}
	c.list("identities", n.Identities)
	if n.CACert != "" {
		c.certificates(n.CACert)
	}
}

func (c *checker) before(n *Notify) {
	d, expiring := time.Duration(n.Before), slices.Contains(n.Events, EventExpiring)
	switch {
	case d < 0 || d > maxBefore:
		c.bad("before", "it must lie between 1s and 30 days", `write "10m"`)
	case expiring && d < time.Second:
		c.bad("before", "it is missing", `write how long before the end of a lease it is told: "10m"`)
	case !expiring && d != 0:
		c.bad("before", "it is for "+EventExpiring, "leave it out, or name that event")
	}
}

// webhook judges the URL. It never repeats it, as it may hold a password by mistake.
func (c *checker) webhook(s string) {
	const example = `write "https://alerts.example.com/bailiff"`
	u, err := url.Parse(s)
	switch {
	case s == "":
		c.bad("url", "it is missing", example)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		c.bad("url", "it is not an absolute https:// or http:// URL", example)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		c.bad("url", "it holds a user, or something behind the path", "leave it out: what is sent is signed with the secret")
	}
}
