package aws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// serverID is the header by which a request says which server it was signed for.
const serverID = "X-Vault-Aws-Iam-Server-Id"

// signed is a request that a client has signed and not sent.
type signed struct {
	url     *url.URL
	body    string
	headers http.Header
}

// Login has AWS say who signed a request. See auth.Method.
func (a *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	if c.Op != policy.Update && c.Op != policy.Create {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	name := strings.ToLower(c.Body.Text("role"))
	s, err := readSigned(c.Body)
	if err != nil {
		return nil, err
	}
	x := client{}
	d, err := auth.Load[client](ctx, c.At, "client")
	if err != nil {
		return nil, err
	}
	if d != nil {
		x = d.Value
	}
	if err := s.check(&x); err != nil {
		return nil, wrong("", "%s", err)
	}
	who, err := a.ask(ctx, &x, s)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = strings.ToLower(who.name())
	}
	r, err := auth.Load[role](ctx, c.At, roleKey(name))
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, wrong(who.ARN, "entry for role %s not found", name)
	case !r.Value.Allow(c.ClientAddr):
		return nil, &auth.Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that tokens of the role are bound to", Alias: who.ARN}
	case !r.Value.has(who):
		return nil, wrong(who.ARN, "IAM Principal %q does not belong to the role %q", who.ARN, name)
	}
	n, err := loadNaming(ctx, c.At)
	if err != nil {
		return nil, err
	}
	return &auth.Outcome{Login: r.Value.spec(name, n.Alias, who)}, nil
}

func wrong(alias, format string, args ...any) *auth.Refused {
	no := auth.Refuse(alias, format, args...)
	no.Wrong = true
	return no
}

func (r *role) spec(name, alias string, who *caller) *identity.LoginSpec {
	metadata := map[string]string{"account_id": who.Account, "auth_type": "iam"}
	spec := &identity.LoginSpec{
		DisplayName: who.name(), Role: name, Params: r.Spec(), AliasMetadata: metadata,
		Metadata: map[string]string{"account_id": who.Account, "auth_type": "iam", "role_id": r.ID},
		Claims:   map[string]string{"arn": who.ARN, "account": who.Account, "user_id": who.UserID, "canonical_arn": who.canonical()},
	}
	switch alias {
	case "unique_id":
		spec.Alias = who.uniqueID()
	case "full_arn":
		spec.Alias = who.ARN
	default:
		spec.Alias = r.ID
	}
	return spec
}

// readSigned takes the request out of the body.
func readSigned(b *auth.Body) (*signed, error) {
	method, address, body := b.Text("iam_http_request_method"), b.Text("iam_request_url"), b.Text("iam_request_body")
	b.Known("nonce", "identity", "signature", "pkcs7", "iam_request_headers")
	headers, err := readHeaders(b)
	if err != nil {
		return nil, err
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, value string }{{"iam_http_request_method", method}, {"iam_request_url", address}, {"iam_request_body", body}} {
		if f.value == "" {
			return nil, auth.Refuse("", "missing %s", f.name)
		}
	}
	if method != http.MethodPost {
		return nil, auth.Refuse("", "invalid iam_http_request_method; currently only 'POST' is supported")
	}
	rawURL, err := base64.StdEncoding.DecodeString(address)
	if err != nil {
		return nil, auth.Refuse("", "failed to base64 decode iam_request_url")
	}
	u, err := url.Parse(string(rawURL))
	if err != nil {
		return nil, auth.Refuse("", "error parsing iam_request_url")
	}
	text, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return nil, auth.Refuse("", "failed to base64 decode iam_request_body")
	}
	return &signed{url: u, body: string(text), headers: headers}, nil
}

// readHeaders reads the headers: an object, or the base64 form of one, of strings or lists of them.
func readHeaders(b *auth.Body) (http.Header, error) {
	var raw map[string]any
	if text := b.Raw("iam_request_headers"); len(text) > 0 {
		var coded string
		if json.Unmarshal(text, &coded) == nil {
			plain, err := base64.StdEncoding.DecodeString(coded)
			if err != nil {
				plain = []byte(coded)
			}
			text = plain
		}
		if json.Unmarshal(text, &raw) != nil {
			return nil, auth.Refuse("", "error parsing iam_request_headers")
		}
	}
	if len(raw) == 0 {
		return nil, auth.Refuse("", "missing iam_request_headers")
	}
	out := http.Header{}
	for name, v := range raw {
		switch x := v.(type) {
		case string:
			out.Add(name, x)
		case []any:
			for _, item := range x {
				out.Add(name, fmt.Sprint(item))
			}
		default:
			return nil, auth.Refuse("", "error parsing iam_request_headers")
		}
	}
	return out, nil
}

// hosts are AWS's token services.
var hosts = regexp.MustCompile(`^sts(-fips)?(\.[a-z]{2}(-[a-z]+)+-[0-9])?\.amazonaws\.com(\.cn)?$`)

// passed lists the headers that are sent on; what else is signed makes a request that isn't the one that is meant.
func passed() []string {
	return []string{"Accept", "Authorization", "Content-Type", "User-Agent", "X-Amz-Content-Sha256", "X-Amz-Date", "X-Amz-Security-Token", serverID}
}

// check says why a request is not the one question that is to be asked, of the one service that may be asked.
func (s *signed) check(x *client) error {
	if x.Endpoint == "" && !hosts.MatchString(s.url.Host) {
		return errors.New("the request is not for a token service of AWS")
	}
	if s.url.Path != "" && s.url.Path != "/" || s.url.User != nil || s.url.RawQuery != "" || x.Endpoint == "" && s.url.Scheme != "https" {
		return errors.New("iam_request_url is not the plain address of a token service")
	}
	query, err := url.ParseQuery(s.body)
	if err != nil {
		return errors.New("iam_request_body is not a form")
	}
	for name, values := range query {
		switch {
		case name == "Action" && len(values) == 1 && values[0] == "GetCallerIdentity":
		case name == "Version" && len(values) == 1:
		default:
			return errors.New("unexpected request body: only GetCallerIdentity may be asked")
		}
	}
	if query.Get("Action") == "" {
		return errors.New("unexpected request body: only GetCallerIdentity may be asked")
	}
	if host := s.headers.Get("Host"); host != "" && host != s.url.Host {
		return errors.New("the Host header is not that of iam_request_url")
	}
	for name := range s.headers {
		if strings.HasPrefix(name, "X-Amz-") && !slices.Contains(passed(), name) && !slices.ContainsFunc(x.Headers, func(h string) bool { return strings.EqualFold(h, name) }) {
			return fmt.Errorf("invalid request header: %s", name)
		}
	}
	return s.checkServerID(x.ServerID)
}

func (s *signed) checkServerID(want string) error {
	if want == "" {
		return nil
	}
	values := s.headers.Values(serverID)
	switch {
	case len(values) == 0:
		return errors.New("error validating X-Vault-AWS-IAM-Server-ID header: missing header \"X-Vault-AWS-IAM-Server-ID\"")
	case len(values) > 1 || values[0] != want:
		return errors.New("error validating X-Vault-AWS-IAM-Server-ID header: the value is not that of this server")
	}
	for _, a := range s.headers.Values("Authorization") {
		for part := range strings.SplitSeq(strings.TrimPrefix(a, "AWS4-HMAC-SHA256"), ",") {
			list, ok := strings.CutPrefix(strings.TrimSpace(part), "SignedHeaders=")
			if ok && slices.Contains(strings.Split(list, ";"), strings.ToLower(serverID)) {
				return nil
			}
		}
	}
	return errors.New("error validating X-Vault-AWS-IAM-Server-ID header: the header was not signed")
}
