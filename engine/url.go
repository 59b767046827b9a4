package engine

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// template is how Vault's connection_url stands for the user and the password, which have fields of their own.
const template = "{{username}}:{{password}}@"

// connection is a connection_url, taken apart.
type connection struct {
	address            string // without a user, a password and what Bailiff has no use for
	username, password string // that stood in it; empty where it is a template
	timeout            time.Duration
	ignored            []string // its parameters that have no effect
}

// parseConnection takes Vault's connection_url apart. What is wrong with it is said without repeating it.
func parseConnection(text string) (connection, error) {
	var c connection
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		return c, invalid("error creating database object: connection_url must have the form postgresql://{{username}}:{{password}}@host:port/database?sslmode=verify-full")
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := c.user(authority[:i]); err != nil {
			return c, err
		}
		rest = rest[i+1:]
	}
	path, query, _ := strings.Cut(rest, "?")
	kept, err := c.parameters(query)
	if err != nil {
		return c, err
	}
	c.address = scheme + "://" + path + "?" + kept
	return c, nil
}

// user reads what stands before the @.
func (c *connection) user(info string) error {
	name, password, _ := strings.Cut(info, ":")
	var errs [2]error
	if name != "{{username}}" {
		c.username, errs[0] = url.PathUnescape(name)
	}
	if password != "{{password}}" {
		c.password, errs[1] = url.PathUnescape(password)
	}
	if errs[0] != nil || errs[1] != nil {
		return invalid("error creating database object: the user or the password in connection_url is not well escaped")
	}
	return nil
}

// parameters keeps what the address may hold. Without sslmode it is what Vault's driver takes it for.
func (c *connection) parameters(query string) (string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", invalid("error creating database object: the parameters of connection_url are not well escaped")
	}
	kept := url.Values{"sslmode": {"prefer"}}
	for name, v := range values {
		switch name {
		case "sslmode", "target_session_attrs":
			kept[name] = v[:1]
		case "connect_timeout":
			d, ok := parseDuration(v[0])
			if !ok {
				return "", invalid("error creating database object: connect_timeout in connection_url is no number of seconds")
			}
			c.timeout = d
		case "sslrootcert", "sslcert", "sslkey", "sslpassword", "passfile", "servicefile", "service":
			return "", invalid("error creating database object: %s in connection_url names something on Bailiff's disk: give a certificate authority in tls_ca", name)
		case "user", "password":
			return "", invalid("error creating database object: give the user and the password in username and password")
		default:
			c.ignored = append(c.ignored, name)
		}
	}
	slices.Sort(c.ignored)
	return kept.Encode(), nil
}

// shown is an address as a connection_url: with the template, and without the sslmode that it has by itself.
func shown(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	path, query, _ := strings.Cut(rest, "?")
	kept := slices.DeleteFunc(strings.Split(query, "&"), func(s string) bool { return s == "" || s == "sslmode=prefer" })
	if len(kept) > 0 {
		path += "?" + strings.Join(kept, "&")
	}
	return scheme + "://" + template + path
}
