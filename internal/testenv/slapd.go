package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// LDAPServer is an OpenLDAP server with the suffix dc=example,dc=org, which is empty. Anonymous callers can bind and see
// nothing.
type LDAPServer struct {
	URL           string // ldap://127.0.0.1:PORT
	AdminDN       string
	AdminPassword string

	*Process
}

const slapdConfig = `include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile %[2]s/pid
database mdb
suffix "dc=example,dc=org"
rootdn "%[3]s"
rootpw %[4]s
directory %[2]s/db
overlay memberof
access to attrs=userPassword by self write by anonymous auth by * none
access to * by users read by * none
`

// StartLDAP starts an OpenLDAP server and waits until it answers.
func (e *Env) StartLDAP(ctx context.Context) (*LDAPServer, error) {
	bin, err := e.program(ctx, "slapd", packages{
		apt: []string{"slapd"}, dnf: []string{"openldap-servers"}, apk: []string{"openldap", "openldap-back-mdb"}, brew: []string{"openldap"},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return attempts(ctx, 5, func() (*LDAPServer, error) { return e.startLDAP(ctx, bin) })
}

func (e *Env) startLDAP(ctx context.Context, bin string) (*LDAPServer, error) {
	port, err := FreePort(1)
	if err != nil {
		return nil, err
	}
	dir, err := e.NewDir("slapd", nil)
	if err != nil {
		return nil, err
	}
	s := &LDAPServer{URL: "ldap://" + loopback(port), AdminDN: "cn=admin,dc=example,dc=org", AdminPassword: strings.ToLower(rand.Text())}
	config := fmt.Sprintf(slapdConfig, "/etc/ldap/schema", dir, s.AdminDN, s.AdminPassword)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "db"), 0o700), os.WriteFile(filepath.Join(dir, "slapd.conf"), []byte(config), 0o600)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if s.Process, err = e.Start(Command{
		Name: "slapd", Path: bin, Dir: dir, Env: cleanEnviron(dir),
		Args: []string{"-f", filepath.Join(dir, "slapd.conf"), "-h", s.URL, "-d", "0"},
	}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.WaitReady(ctx, func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", loopback(port))
		if err != nil {
			return err
		}
		return conn.Close()
	}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

var sharedLDAP = sync.OnceValues(func() (*LDAPServer, error) {
	env, err := shared.env()
	if err != nil {
		return nil, err
	}
	return env.StartLDAP(context.Background())
})

// LDAP returns the LDAP server that the tests of this process share. Tests keep apart by using subtrees of their own.
func LDAP(t testing.TB) *LDAPServer {
	t.Helper()
	s, err := sharedLDAP()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
