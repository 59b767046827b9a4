// Package aws is the auth method of IAM users and roles of AWS.
//
// It serves the part of Vault's method that is called iam: the client signs a GetCallerIdentity request and hands it over
// unsent; Bailiff sends it to AWS's token service, which says who signed it. No credential of AWS is kept here, so bound ids
// are given as they are (bound_iam_principal_id) and not looked up from names.
package aws

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is aws. It is safe for concurrent use.
type Method struct {
	client *http.Client
	routes auth.Routes
}

const stsTimeout = 10 * time.Second

// New makes the method.
func New() *Method {
	a := &Method{client: &http.Client{
		Timeout:       stsTimeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: stsTimeout, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	a.routes = auth.Routes{
		{Op: read, Path: "config/client", Serve: a.readClient},
		{Op: update, Path: "config/client", Serve: a.writeClient},
		{Op: remove, Path: "config/client", Serve: a.removeClient},
		{Op: read, Path: "config/identity", Serve: a.readIdentity},
		{Op: update, Path: "config/identity", Serve: a.writeIdentity},
		{Op: list, Path: "role", Serve: a.listRoles},
		{Op: list, Path: "roles", Serve: a.listRoles},
		{Op: read, Path: "role/{name}", Serve: a.readRole},
		{Op: update, Path: "role/{name}", Serve: a.writeRole},
		{Op: remove, Path: "role/{name}", Serve: a.removeRole},
	}
	return a
}

// Greets is true of the login alone. See auth.Method.
func (*Method) Greets(rest string) bool { return rest == "login" }

// Serve answers everything but logins. See auth.Method.
func (a *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return a.routes.Serve(ctx, c)
}

// Exists tells whether a role is there. See auth.Exister.
func (*Method) Exists(ctx context.Context, m *auth.Mount, rest string) (exists, known bool, err error) {
	args, ok := auth.Match("role/{name}", rest)
	if !ok {
		return false, false, nil
	}
	d, err := auth.Load[role](ctx, m, roleKey(args["name"]))
	return d != nil, err == nil, err
}

// client is how the token service is reached, and what a request to it must say.
type client struct {
	Endpoint string // empty: the one that the request is signed for, where that is one of AWS's
	Region   string
	ServerID string   // the value that the header X-Vault-AWS-IAM-Server-ID must have; empty: any
	Headers  []string // further headers that may be signed
	Retries  int
}

func (a *Method) readClient(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[client](ctx, c.At, "client")
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	x := &d.Value
	return auth.OK(map[string]any{
		"access_key": "", "endpoint": "", "iam_endpoint": "", "sts_endpoint": x.Endpoint, "sts_region": x.Region, "use_sts_region_from_client": x.Endpoint == "",
		"iam_server_id_header_value": x.ServerID, "max_retries": x.Retries, "allowed_sts_header_values": x.Headers,
	}), nil
}

func (a *Method) writeClient(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	b := c.Body
	if b.Text("access_key") != "" || b.Text("secret_key") != "" {
		return nil, auth.Invalid("no credential of AWS is needed here, and none is kept: leave access_key and secret_key away")
	}
	b.Known("endpoint", "iam_endpoint", "use_sts_region_from_client")
	err := auth.Again(func() error {
		d, err := auth.Load[client](ctx, c.At, "client")
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[client]{Key: "client", Value: client{Retries: -1}}
		}
		x := &d.Value
		b.SetText("sts_endpoint", &x.Endpoint)
		b.SetText("sts_region", &x.Region)
		b.SetText("iam_server_id_header_value", &x.ServerID)
		b.SetList("allowed_sts_header_values", &x.Headers)
		b.SetInt("max_retries", &x.Retries)
		if err := b.Err(); err != nil {
			return err
		}
		if u, err := url.Parse(x.Endpoint); x.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			return auth.Invalid("sts_endpoint is not a URL such as https://sts.eu-central-1.amazonaws.com")
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the configuration"), nil
}

func (a *Method) removeClient(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[client](ctx, c.At, "client"); err != nil {
		return nil, err
	}
	return auth.Done("deleted the configuration"), nil
}

// naming is by what name a caller is known here.
type naming struct {
	Alias string // role_id, unique_id or full_arn
}

func loadNaming(ctx context.Context, m *auth.Mount) (naming, error) {
	d, err := auth.Load[naming](ctx, m, "identity")
	if err != nil || d == nil {
		return naming{Alias: "role_id"}, err
	}
	return d.Value, nil
}

func (a *Method) readIdentity(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	n, err := loadNaming(ctx, c.At)
	if err != nil {
		return nil, err
	}
	return auth.OK(map[string]any{"iam_alias": n.Alias, "iam_metadata": []string{"account_id", "auth_type"}, "ec2_alias": "role_id", "ec2_metadata": []string{"account_id", "auth_type"}}), nil
}

func (a *Method) writeIdentity(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	alias := c.Body.Text("iam_alias")
	c.Body.Known("iam_metadata", "ec2_alias", "ec2_metadata")
	if !slices.Contains([]string{"role_id", "unique_id", "full_arn"}, alias) {
		return nil, auth.Invalid("iam_alias of %q not in set [role_id unique_id full_arn]", alias)
	}
	err := auth.Again(func() error {
		d, err := auth.Load[naming](ctx, c.At, "identity")
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[naming]{Key: "identity"}
		}
		d.Value.Alias = alias
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the naming"), nil
}

func roleKey(name string) string { return "role/" + strings.ToLower(name) }
