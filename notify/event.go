package notify

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// event is a CloudEvent 1.0 in its JSON form.
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"` // the same for each time that it is sent
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"` // the lease's id
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        data      `json:"data"`
}

// data is what an event says. Its fields are written one by one: nothing else of a record goes out.
type data struct {
	LeaseID   string `json:"lease_id"`
	Mount     string `json:"mount"`
	Role      string `json:"role"`
	Target    string `json:"target"`
	Principal string `json:"principal"`
	Identity  string `json:"identity,omitempty"`
	AccessID  string `json:"access_id,omitempty"`
	RequestID string `json:"request_id,omitempty"` // of the request that issued it
	ExpiresAt string `json:"expires_at,omitempty"`
	By        string `json:"by,omitempty"` // who gave it up
	Cause     string `json:"cause,omitempty"`
	Error     string `json:"error,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Node      string `json:"node"`
}

// eventOf is what a record says to a webhook; false where it says nothing to it.
func eventOf(r *audit.Record, n *object.Notify, source string) (e event, ok bool) {
	if r.LeaseID == "" || !slices.Contains(n.Events, r.Event) {
		return e, false
	}
	mount := strings.TrimSuffix(r.Mount, "/")
	role := strings.TrimPrefix(r.Path, r.Mount+"creds/")
	if !picks(n.Mounts, mount) || !picks(n.Roles, mount+"/"+role) {
		return e, false
	}
	d := data{
		LeaseID: r.LeaseID, Mount: mount, Role: role, Target: r.Target, Principal: r.Principal, Identity: r.Identity, AccessID: r.AccessID,
		RequestID: r.RequestID, Detail: r.Detail, Node: r.Node,
	}
	id := r.LeaseID + "/" + strings.TrimPrefix(r.Event, "lease.")
	if r.Event == broker.EventGivenUp { // the record names who did it
		d.By, d.Identity = r.Identity, ""
	} else if !picks(n.Identities, r.Identity) {
		return e, false
	}
	switch r.Event {
	case object.EventExpiring:
		ends, hook, told := toldOf(r.Detail)
		if !told || hook != n.Name {
			return e, false
		}
		d.ExpiresAt, d.Detail = ends.UTC().Format(time.RFC3339), ""
		id += "/" + strconv.FormatInt(ends.Unix(), 10)
	case broker.EventFailing, broker.EventGivenUp:
		d.Cause, d.Error, _ = strings.Cut(r.Error, ": ")
		if d.Error == "" { // it was never tried
			d.Cause, d.Error = "", d.Cause
		}
	}
	return event{
		SpecVersion: "1.0", ID: id, Source: source, Type: r.Event, Subject: r.LeaseID, Time: r.Time.UTC(),
		ContentType: "application/json", Data: d,
	}, true
}

// picks says whether a filter that is empty or names what it wants lets value through.
func picks(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }

// The words of a record that a lease comes to its end, with a webhook's name behind them.
const (
	endsWords = "expires "
	forWords  = ", for webhook "
)

func tellOf(ends time.Time, hook string) string {
	return endsWords + ends.UTC().Format(time.RFC3339Nano) + forWords + hook
}

// toldOf is tellOf the other way.
func toldOf(detail string) (ends time.Time, hook string, ok bool) {
	rest, begins := strings.CutPrefix(detail, endsWords)
	when, hook, parted := strings.Cut(rest, forWords)
	ends, err := time.Parse(time.RFC3339Nano, when)
	return ends, hook, begins && parted && err == nil
}

// body is what is sent.
func (e event) body() ([]byte, error) { return json.Marshal(e) }
