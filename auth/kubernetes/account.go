package kubernetes

import (
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// account is the service account that a token is of, as the token says.
type account struct {
	Namespace, Name, UID string
	Secret               string // of the older tokens, which were kept in one
	Pod, Node            string
	Audience             []string
	Issuer               string
	expires, from        time.Time // zero: not said
}

// audiences takes a string and a list of them.
type audiences []string

// UnmarshalJSON reads either.
func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// parseAccount reads the claims of both kinds of tokens: those that pods get now, and the older ones from secrets.
func parseAccount(payload []byte) (*account, error) {
	type ref struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	var c struct {
		Issuer    string    `json:"iss"`
		Audience  audiences `json:"aud"`
		Expires   float64   `json:"exp"`
		NotBefore float64   `json:"nbf"`

		OldNamespace string `json:"kubernetes.io/serviceaccount/namespace"`
		OldName      string `json:"kubernetes.io/serviceaccount/service-account.name"`
		OldUID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
		OldSecret    string `json:"kubernetes.io/serviceaccount/secret.name"`

		Kubernetes *struct {
			Namespace string `json:"namespace"`
			Account   ref    `json:"serviceaccount"`
			Pod       ref    `json:"pod"`
			Node      ref    `json:"node"`
		} `json:"kubernetes.io"`
	}
	if json.Unmarshal(payload, &c) != nil {
		return nil, errors.New("the claims are not those of a service account")
	}
	a := &account{
		Namespace: c.OldNamespace, Name: c.OldName, UID: c.OldUID, Secret: c.OldSecret, Audience: c.Audience, Issuer: c.Issuer,
		expires: unix(c.Expires), from: unix(c.NotBefore),
	}
	if k := c.Kubernetes; k != nil {
		a.Namespace, a.Name, a.UID, a.Pod, a.Node = k.Namespace, k.Account.Name, k.Account.UID, k.Pod.Name, k.Node.Name
	}
	if a.Namespace == "" || a.Name == "" || a.UID == "" {
		return nil, errors.New("the claims are not those of a service account")
	}
	return a, nil
}

func unix(seconds float64) time.Time {
	if seconds <= 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// skew is how far clocks may differ.
const skew = time.Minute

// counts says why a token does not count. What is checked offline must say until when it does, and for whom it is.
func (a *account) counts(r *role, x *config) error {
	now := time.Now()
	switch {
	case !a.expires.IsZero() && now.Add(-skew).After(a.expires):
		return errors.New("invalid expiration time (exp) claim: token is expired")
	case !a.from.IsZero() && now.Add(skew).Before(a.from):
		return errors.New("invalid not before (nbf) claim: token not yet valid")
	case r.Audience != "" && !slices.Contains(a.Audience, r.Audience):
		return errors.New("invalid audience (aud) claim: audience claim does not match any expected audience")
	case !x.NoIssuer && x.Issuer != "" && a.Issuer != x.Issuer:
		return errors.New("invalid issuer (iss) claim")
	case x.Validation != offline:
		return nil
	case a.expires.IsZero():
		return errors.New("a token without an end is not taken offline")
	case r.Audience == "":
		return errors.New("the role must have an audience where tokens are checked offline")
	}
	return nil
}

func (a *account) full() string { return a.Namespace + "/" + a.Name }

// claims are what decided.
func (a *account) claims() map[string]string {
	out := map[string]string{"service_account": a.full(), "service_account_uid": a.UID, "namespace": a.Namespace}
	for name, v := range map[string]string{"pod": a.Pod, "node": a.Node, "iss": a.Issuer} {
		if v != "" {
			out[name] = v
		}
	}
	return out
}
