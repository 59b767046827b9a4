package ldap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// wrongError is a directory's no to a name and a password.
type wrongError struct {
	why   string
	known bool // the name is there
}

func (e *wrongError) Error() string { return e.why }

// person is somebody whose password was right.
type person struct {
	dn, alias string
	groups    []string
}

const (
	connectTime = 10 * time.Second
	searchLimit = 1000 // entries
	pageSize    = 500
)

// authenticate binds as a user and finds their groups. An error that is no *wrongError is no judgement of the password.
func (x *config) authenticate(ctx context.Context, name, password string) (*person, error) {
	conn, err := x.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is written
	bindAs, err := x.bindName(conn, name)
	if err != nil {
		var no *wrongError
		if errors.As(err, &no) {
			// The same work as for a wrong password, so that nobody can tell by the time that a name is not there.
			if err := conn.Bind("cn=nobody,"+x.UserDN, password); ldap.IsErrorWithCode(err, ldap.ErrorNetwork) {
				return nil, err
			}
		}
		return nil, err
	}
	if err := conn.Bind(bindAs, password); err != nil {
		return nil, judge(err)
	}
	if x.searches() && x.BindDN != "" {
		if err := conn.Bind(x.BindDN, x.BindPassword); err != nil {
			return nil, fmt.Errorf("bind again as %s: %w", x.BindDN, err)
		}
	}
	return x.person(ctx, conn, name, bindAs)
}

// searches tells whether the directory is searched for users by somebody else.
func (x *config) searches() bool { return x.DiscoverDN || x.BindDN != "" && x.BindPassword != "" }

// judge tells a no from a failure.
func judge(err error) error {
	for _, code := range []uint16{
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultConstraintViolation, ldap.LDAPResultInsufficientAccessRights,
		ldap.ErrorEmptyPassword,
	} {
		if ldap.IsErrorWithCode(err, code) {
			return &wrongError{why: "the directory refused the password: " + ldap.LDAPResultCodeMap[code], known: code == ldap.LDAPResultInvalidCredentials}
		}
	}
	return err
}

// dial connects to the first server that answers.
func (x *config) dial(ctx context.Context) (*ldap.Conn, error) {
	var errs []error
	for _, address := range x.urls() {
		conn, err := x.dialOne(ctx, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (x *config) dialOne(ctx context.Context, address string) (*ldap.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := x.tls(u.Hostname())
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(connectTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	conn, err := ldap.DialURL(address, ldap.DialWithDialer(&net.Dialer{Deadline: deadline}), ldap.DialWithTLSConfig(tlsConfig))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	conn.SetTimeout(x.Timeout)
	if x.StartTLS && u.Scheme == "ldap" {
		if err := conn.StartTLS(tlsConfig); err != nil {
			conn.Close() //nolint:errcheck // it is of no use
			return nil, fmt.Errorf("start TLS with %s: %w", u.Host, err)
		}
	}
	return conn, nil
}

// bindName is as whom a user binds.
func (x *config) bindName(conn *ldap.Conn, name string) (string, error) {
	switch {
	case x.searches():
		if x.BindDN != "" && x.BindPassword != "" {
			if err := conn.Bind(x.BindDN, x.BindPassword); err != nil {
				return "", fmt.Errorf("bind as %s: %w", x.BindDN, err)
			}
		} else if err := conn.UnauthenticatedBind(x.BindDN); err != nil {
			return "", fmt.Errorf("bind without a password: %w", err)
		}
		entry, err := x.findUser(conn, name)
		if err != nil {
			return "", err
		}
		return entry.DN, nil
	case x.UPNDomain != "":
		return name + "@" + x.UPNDomain, nil
	}
	return x.UserAttr + "=" + ldap.EscapeDN(name) + "," + x.UserDN, nil
}

// findUser finds the one entry that a name stands for.
func (x *config) findUser(conn *ldap.Conn, name string) (*ldap.Entry, error) {
	attr, value := x.UserAttr, ldap.EscapeFilter(name)
	if x.UPNDomain != "" {
		attr, value = "userPrincipalName", ldap.EscapeFilter(name+"@"+x.UPNDomain)
	}
	filter, err := fill(x.UserFilter, map[string]string{"UserAttr": attr, "Username": value})
	if err != nil {
		return nil, err
	}
	found, err := x.search(conn, x.UserDN, filter, x.UserAttr)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, &wrongError{why: fmt.Sprintf("the directory has %d entries of that name", len(found))}
	}
	return found[0], nil
}

func fill(text string, values map[string]string) (string, error) {
	t, err := template.New("filter").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, values); err != nil {
		return "", err
	}
	return out.String(), nil
}

func (x *config) search(conn *ldap.Conn, base, filter string, attrs ...string) ([]*ldap.Entry, error) {
	seconds := int(x.Timeout / time.Second)
	got, err := conn.SearchWithPaging(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, searchLimit, seconds, false, filter, attrs, nil), pageSize)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("search in %q: %w", base, err)
	}
	return got.Entries, nil
}

// person finds what is to be known of a user.
func (x *config) person(ctx context.Context, conn *ldap.Conn, name, bindAs string) (*person, error) {
	p := &person{dn: bindAs, alias: name}
	if !x.NameAsAlias || x.UPNDomain != "" {
		entry, err := x.findUser(conn, name)
		var no *wrongError
		switch {
		case errors.As(err, &no) && !x.NameAsAlias:
			return nil, &wrongError{why: "missing entity alias attribute value: " + no.why, known: true}
		case err != nil && no == nil:
			return nil, err
		case err == nil:
			p.dn = entry.DN
			if v := entry.GetAttributeValue(x.UserAttr); v != "" {
				p.alias = v
			}
		}
	}
	if x.GroupDN == "" || x.GroupFilter == "" {
		return p, nil
	}
	if x.AnonymousGroups {
		other, err := x.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer other.Close() //nolint:errcheck // nothing is written
		conn = other
	}
	filter, err := fill(x.GroupFilter, map[string]string{"UserDN": ldap.EscapeFilter(p.dn), "Username": ldap.EscapeFilter(name)})
	if err != nil {
		return nil, err
	}
	found, err := x.search(conn, x.GroupDN, filter, x.GroupAttr)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		values := e.GetAttributeValues(x.GroupAttr)
		if len(values) == 0 {
			values = []string{e.DN}
		}
		for _, v := range values {
			p.groups = append(p.groups, groupName(v))
		}
	}
	return p, nil
}

// groupName is the common name in a DN, or what is none as it is.
func groupName(value string) string {
	dn, err := ldap.ParseDN(value)
	if err != nil || len(dn.RDNs) == 0 {
		return value
	}
	for _, rdn := range dn.RDNs {
		for _, a := range rdn.Attributes {
			if strings.EqualFold(a.Type, "cn") {
				return a.Value
			}
		}
	}
	return value
}
