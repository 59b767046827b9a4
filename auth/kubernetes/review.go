package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/bailiff-secrets/bailiff/gate"
)

// answerLimit is how many bytes of an answer are read.
const answerLimit = 1 << 20

// tokenReview is the part of the API's object that matters here.
type tokenReview struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status,omitzero"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences,omitempty"`
}

type reviewStatus struct {
	Authenticated bool `json:"authenticated"`
	User          struct {
		Username string `json:"username"`
		UID      string `json:"uid"`
	} `json:"user"`
	Audiences []string `json:"audiences"`
	Error     string   `json:"error"`
}

// down is a cluster that does not answer as it should; it is no judgement of the token.
func down(err error) error {
	return &gate.Error{Kind: gate.TargetDown, Msg: "the cluster's API does not answer", Err: err}
}

// review asks the API whether a token counts, and whether it is of whom it says.
func (c *cluster) review(ctx context.Context, r *role, a *account, token string) error {
	want := a.Audience
	if r.Audience != "" {
		want = []string{r.Audience}
	}
	got, err := c.ask(ctx, token, want)
	if err != nil {
		return err
	}
	s := &got.Status
	switch {
	case s.Error != "" || !s.Authenticated:
		return errors.New("lookup failed: service account jwt not valid")
	case len(want) > 0 && !slices.ContainsFunc(want, func(x string) bool { return slices.Contains(s.Audiences, x) }):
		return errors.New("lookup failed: the API does not say that the token is for its audience")
	case s.User.Username != "system:serviceaccount:"+a.Namespace+":"+a.Name:
		return errors.New("lookup failed: the token is of somebody else")
	case s.User.UID != a.UID:
		return errors.New("lookup failed: the token is of another service account of the same name")
	}
	return nil
}

func (c *cluster) ask(ctx context.Context, token string, audience []string) (*tokenReview, error) {
	body, err := json.Marshal(tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: reviewSpec{Token: token, Audiences: audience}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.Host+"/apis/authentication.k8s.io/v1/tokenreviews", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.config.bearer(token))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, down(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, down(err)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("lookup failed: service account unauthorized; this could mean it has been deleted or recreated with a new token")
	case resp.StatusCode == http.StatusForbidden:
		return nil, errors.New("lookup failed: the reviewer may not review tokens")
	case resp.StatusCode >= http.StatusInternalServerError:
		return nil, down(errors.New(resp.Status))
	case resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK:
		return nil, errors.New("lookup failed: the API answered " + resp.Status)
	}
	var out tokenReview
	if json.Unmarshal(text, &out) != nil || out.Kind != "TokenReview" {
		return nil, down(errors.New("the answer is not a TokenReview"))
	}
	return &out, nil
}
