package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// signIn is one run of bailiff login.
type signIn struct {
	app        *app
	method     string
	mount      string            // without auth/ and slashes
	fields     map[string]string // what stands on the command line; never a secret
	secretFile string
	field      string
	noStore    bool
	noBrowser  bool
	port       int
}

// loginMethod is how a method is logged in to.
type loginMethod struct {
	path   string // below the mount; NAME is the field username
	needs  []string
	secret string // the field of the body that proves it; empty: none
	asks   string // what a person is asked for
	file   string // where the secret is found if nobody says
}

func loginMethods() map[string]loginMethod {
	return map[string]loginMethod{
		"token":      {secret: "token", asks: "Token"},
		"userpass":   {path: "login/NAME", needs: []string{"username"}, secret: "password", asks: "Password"},
		"ldap":       {path: "login/NAME", needs: []string{"username"}, secret: "password", asks: "Password"},
		"approle":    {path: "login", needs: []string{"role_id"}, secret: "secret_id", asks: "Secret id"},
		"jwt":        {path: "login", secret: "jwt", asks: "JWT"},
		"kubernetes": {path: "login", needs: []string{"role"}, secret: "jwt", asks: "JWT", file: "/var/run/secrets/kubernetes.io/serviceaccount/token"},
		"cert":       {path: "login"},
		"oidc":       {},
	}
}

// secretFields are never taken from the command line, which every user of a machine can read.
func secretFields() []string { return []string{"password", "secret_id", "jwt", "token", "secret"} }

func (a *app) loginCommand() *cobra.Command {
	s := &signIn{app: a, fields: map[string]string{}}
	cmd := &cobra.Command{
		Use:   "login [KEY=VALUE...]",
		Short: "Log in and keep the token for the commands that follow",
		Long: `Log in with an auth method. The token is kept in ~/.bailiff-token, which only you can read, or printed with --no-store,
--field token or --format json.

What proves who you are never stands on the command line. It is read from the file that --secret-file names (- is standard
input), else from BAILIFF_LOGIN_SECRET, else it is asked for. With --method oidc your browser opens.
With --method cert the certificate and its key are in the files that BAILIFF_CLIENT_CERT and BAILIFF_CLIENT_KEY name.`,
		Example: `  bailiff login --method userpass username=ann
  bailiff login --method oidc role=people
  bailiff login --method approle role_id=$ROLE_ID --secret-file secret-id
  bailiff login --method jwt --path github role=deploy --field token --no-store
  export VAULT_TOKEN=$(bailiff login --method kubernetes role=app --no-store --field token)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.read(cmd, args); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.method, "method", "token", "the auth method: "+strings.Join(slices.Sorted(maps.Keys(loginMethods())), ", "))
	f.StringVar(&s.mount, "path", "", "where the method is mounted; default its name")
	f.StringVar(&s.secretFile, "secret-file", "", "a file with the password, secret id, JWT or token; - is standard input")
	f.StringVar(&s.field, "field", "", "print only this: token, accessor, policies, entity_id or ttl")
	f.BoolVar(&s.noStore, "no-store", false, "don't keep the token, print it")
	f.BoolVar(&s.noBrowser, "no-browser", false, "with oidc: print the address instead of opening it")
	f.IntVar(&s.port, "callback-port", 8250, "with oidc: where the browser comes back to on this machine")
	complete(cmd, "method", func(*cobra.Command, string) []string { return slices.Sorted(maps.Keys(loginMethods())) })
	complete(cmd, "field", func(*cobra.Command, string) []string {
		return []string{"token", "accessor", "policies", "entity_id", "ttl"}
	})
	a.formatFlag(cmd)
	return cmd
}

// dashes makes -method=x of old habits --method=x.
func dashes(args []string) []string {
	if len(args) == 0 || args[0] != "login" && args[0] != "auth" {
		return args
	}
	out := slices.Clone(args)
	for i, arg := range out {
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
			out[i] = "-" + arg
		}
	}
	return out
}

func (s *signIn) read(cmd *cobra.Command, args []string) error {
	m, known := loginMethods()[s.method]
	if !known {
		return usage(cmd, fmt.Sprintf("unknown method %q: it is one of %s", s.method, strings.Join(slices.Sorted(maps.Keys(loginMethods())), ", ")))
	}
	if s.mount = strings.Trim(strings.TrimPrefix(s.mount, "auth/"), "/"); s.mount == "" {
		s.mount = s.method
	}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		switch {
		case !ok:
			return usage(cmd, "an argument is not of the form key=value") // it may be a secret: it is not repeated
		case slices.Contains(secretFields(), key):
			return hinted("give it with --secret-file FILE, in BAILIFF_LOGIN_SECRET, or when you are asked", "%s must not stand on the command line, which other users can read", key)
		}
		s.fields[key] = value
	}
	for _, name := range m.needs {
		if s.fields[name] == "" {
			return usage(cmd, fmt.Sprintf("missing argument: %s=…", name))
		}
	}
	return nil
}

// secret finds what proves who somebody is.
func (s *signIn) secret(m loginMethod) (secret.Value, error) {
	a := s.app
	switch {
	case s.secretFile == "-":
		return readSecret(a.stdin, "standard input")
	case s.secretFile != "":
		return secretIn(s.secretFile)
	case a.getenv("BAILIFF_LOGIN_SECRET", "") != "":
		return secret.New(a.getenv("BAILIFF_LOGIN_SECRET", "")), nil
	case m.file != "":
		if _, err := os.Stat(m.file); err == nil {
			return secretIn(m.file)
		}
	}
	f, isFile := a.stdin.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return secret.Value{}, hinted("use --secret-file FILE, --secret-file - for standard input, or BAILIFF_LOGIN_SECRET", "there is nobody to ask for the %s", strings.ToLower(m.asks))
	}
	fmt.Fprintf(a.stderr, "%s (will be hidden): ", m.asks)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read the %s: %w", strings.ToLower(m.asks), err)
	}
	return secret.New(string(b)), nil
}

func secretIn(name string) (secret.Value, error) {
	f, err := os.Open(name)
	if err != nil {
		return secret.Value{}, fmt.Errorf("--secret-file: %w", err)
	}
	defer f.Close()
	return readSecret(f, name)
}

// readSecret reads all of r, less a line feed at its end.
func readSecret(r io.Reader, name string) (secret.Value, error) {
	b, err := io.ReadAll(io.LimitReader(r, 256<<10))
	if err != nil {
		return secret.Value{}, fmt.Errorf("read %s: %w", name, err)
	}
	v := secret.New(strings.TrimRight(string(b), "\r\n"))
	if v.Empty() {
		return v, fmt.Errorf("%s holds nothing", name)
	}
	return v, nil
}

func (s *signIn) run(ctx context.Context) error {
	c, err := s.app.clientWith(secret.Value{})
	if err != nil {
		return err
	}
	defer c.Close()
	var got api.VaultAnswer
	switch m := loginMethods()[s.method]; s.method {
	case "token":
		return s.token(ctx, c, m)
	case "oidc":
		got, err = s.browse(ctx, c)
	default:
		got, err = s.prove(ctx, c, m)
	}
	if err != nil {
		return err
	}
	if got.Auth == nil || got.Auth.ClientToken == "" {
		return errors.New("the server's answer has no token")
	}
	return s.finish(got)
}

func (s *signIn) prove(ctx context.Context, c *api.Client, m loginMethod) (api.VaultAnswer, error) {
	body := map[string]any{}
	for name, value := range s.fields {
		body[name] = value
	}
	if m.secret != "" {
		v, err := s.secret(m)
		if err != nil {
			return api.VaultAnswer{}, err
		}
		body[m.secret] = v.Reveal()
	}
	path := strings.Replace(m.path, "NAME", s.fields["username"], 1)
	return c.Vault(ctx, http.MethodPut, "auth/"+s.mount+"/"+path, body)
}

// token keeps a token that somebody has already, once it is seen to count.
func (s *signIn) token(ctx context.Context, c *api.Client, m loginMethod) error {
	v, err := s.secret(m)
	if err != nil {
		return err
	}
	found, err := c.WithToken(v).Vault(ctx, http.MethodGet, "auth/token/lookup-self", nil)
	if err != nil {
		return err
	}
	var about struct {
		Accessor string            `json:"accessor"`
		EntityID string            `json:"entity_id"`
		Policies []string          `json:"policies"`
		TTL      int64             `json:"ttl"`
		Meta     map[string]string `json:"meta"`
	}
	if json.Unmarshal(found.Data, &about) != nil {
		return errors.New("the server's answer can't be read")
	}
	found.Auth = &api.VaultAuth{
		ClientToken: v.Reveal(), Accessor: about.Accessor, EntityID: about.EntityID, Policies: about.Policies, LeaseDuration: about.TTL, Metadata: about.Meta,
	}
	return s.finish(found)
}

// finish keeps the token, or prints it, and says what it is.
func (s *signIn) finish(got api.VaultAnswer) error {
	a, auth := s.app, got.Auth
	for _, w := range got.Warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", plain(w))
	}
	file := ""
	if !s.noStore {
		var err error
		if file, err = a.storeToken(secret.New(auth.ClientToken)); err != nil {
			return err
		}
	}
	ttl := time.Duration(auth.LeaseDuration) * time.Second
	if s.field != "" {
		return s.printField(auth, ttl)
	}
	t := table{}
	if s.noStore {
		t.add("token", auth.ClientToken)
	} else {
		t.note = "You are logged in. The token is kept in " + file + "."
	}
	t.add("accessor", auth.Accessor)
	t.add("policies", strings.Join(auth.Policies, ", "))
	if auth.EntityID != "" {
		t.add("entity", auth.EntityID)
	}
	if ttl > 0 {
		t.add("ttl", ttl.String())
	}
	for _, name := range slices.Sorted(maps.Keys(auth.Metadata)) {
		t.add(name, auth.Metadata[name])
	}
	return a.print(auth, t)
}

func (s *signIn) printField(auth *api.VaultAuth, ttl time.Duration) error {
	values := map[string]string{
		"token": auth.ClientToken, "accessor": auth.Accessor, "policies": strings.Join(auth.Policies, ","), "entity_id": auth.EntityID, "ttl": ttl.String(),
	}
	v, ok := values[s.field]
	if !ok {
		return fmt.Errorf("there is no field %q: it is one of %s", s.field, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
	}
	fmt.Fprintln(s.app.stdout, v)
	return nil
}

// keptToken is the file in which login keeps the token; empty where there is no home directory.
func (a *app) keptToken() string {
	home := a.getenv("HOME", "")
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".bailiff-token")
}

// storeToken keeps a token so that only its user can read it. It is there whole or not at all.
func (a *app) storeToken(token secret.Value) (string, error) {
	name := a.keptToken()
	if name == "" {
		return "", hinted("--no-store prints the token", "there is no home directory to keep the token in")
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".bailiff-token-*") // with mode 0600
	if err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	_, err = f.WriteString(token.Reveal())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return "", fmt.Errorf("keep the token: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return name, nil
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End the token that login has kept, and forget it",
		Long:  "End the token that login has kept, with everything that was issued to it, and forget it. An access key is only forgotten.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := a.keptToken()
			token, err := tokenIn(name, name)
			if errors.Is(err, os.ErrNotExist) || name == "" {
				return errors.New("nobody is logged in")
			}
			if err != nil {
				return err
			}
			if !strings.HasPrefix(token.Reveal(), "p-") { // revoking itself would switch an access key off
				c, err := a.clientWith(token)
				if err != nil {
					return err
				}
				defer c.Close()
				var said *api.Error
				if _, err := c.Vault(cmd.Context(), http.MethodPut, "auth/token/revoke-self", nil); err != nil && (!errors.As(err, &said) || said.Kind != api.Denied) {
					return err // it may go on to count: it is not forgotten
				}
			}
			if err := os.Remove(name); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "You are logged out.")
			return nil
		},
	}
}
