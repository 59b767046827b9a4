package aws

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
)

// caller is who signed a request, as AWS says.
type caller struct {
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string `xml:"Account"`
}

// answerLimit is how many bytes of an answer are read.
const answerLimit = 64 << 10

// ask sends a request on and reads who signed it. It goes to the endpoint that was configured, or to the one that the request
// names, which was checked to be AWS's.
func (a *Method) ask(ctx context.Context, x *client, s *signed) (*caller, error) {
	endpoint := x.Endpoint
	if endpoint == "" {
		endpoint = "https://" + s.url.Host
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	u.Path = "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(s.body))
	if err != nil {
		return nil, err
	}
	req.Host = s.url.Host
	for name, values := range s.headers {
		if slices.Contains(passed(), name) || slices.ContainsFunc(x.Headers, func(h string) bool { return strings.EqualFold(h, name) }) {
			req.Header[name] = values
		}
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the token service of AWS does not answer", Err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	switch {
	case err != nil || resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the token service of AWS does not answer", Err: errors.Join(err, errors.New(resp.Status))}
	case resp.StatusCode != http.StatusOK:
		return nil, wrong("", "error making upstream request: received error code %d from STS", resp.StatusCode)
	}
	var out struct {
		Results []caller `xml:"GetCallerIdentityResult"`
	}
	if xml.Unmarshal(text, &out) != nil || len(out.Results) != 1 || out.Results[0].parts() == nil {
		return nil, wrong("", "error making upstream request: the answer is not one of GetCallerIdentity")
	}
	return &out.Results[0], nil
}

// parts takes the ARN apart: partition, account, kind, name, session; nil where it is none of a user or a role.
func (c *caller) parts() []string {
	p := strings.Split(c.ARN, ":")
	if len(p) != 6 || p[0] != "arn" || p[2] != "iam" && p[2] != "sts" || p[4] != c.Account || c.UserID == "" {
		return nil
	}
	names := strings.Split(p[5], "/")
	switch {
	case names[0] == "assumed-role" && len(names) == 3:
		return []string{p[1], p[4], "role", names[1], names[2]}
	case (names[0] == "user" || names[0] == "role") && len(names) > 1:
		return []string{p[1], p[4], names[0], names[len(names)-1], ""}
	}
	return nil
}

// canonical is the ARN of the user or the role, without a path and a session.
func (c *caller) canonical() string {
	p := c.parts()
	return "arn:" + p[0] + ":iam::" + p[1] + ":" + p[2] + "/" + p[3]
}

func (c *caller) name() string { return c.parts()[3] }

// uniqueID is AWS's own id of the user or the role, which is never used again.
func (c *caller) uniqueID() string {
	id, _, _ := strings.Cut(c.UserID, ":")
	return id
}
