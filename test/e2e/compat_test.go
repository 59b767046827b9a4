package e2e_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// kv2 is every kv command on a version 2 mount, in an order in which each has something to do. A line that begins with a
// quoted text gets that on standard input.
const kv2 = `
kv put secret/app/a user=u pass=p
kv put -cas=1 secret/app/a user=u2 pass=p2
kv put -cas=1 secret/app/a user=u3
kv put -cas=0 secret/app/a user=u3
kv put -cas=0 secret/app/new k=v
kv put -mount=secret app/b k=v
kv put -format=json secret/app/e a=1
kv put -field=version secret/app/e a=2
"{"j":1,"n":{"x":[1,2],"big":12345678901234567890}}" kv put secret/app/c -
"from standard input" kv put secret/app/d pass=-
kv put secret/app/d
kv put secret/app/nothing/here/d x=y
kv get secret/app/a
kv get -format=json secret/app/a
kv get -format=yaml secret/app/a
kv get -format=json secret/app/c
kv get -field=user secret/app/a
kv get -field=nope secret/app/a
kv get -version=1 secret/app/a
kv get -version=9 secret/app/a
kv get -mount=secret app/a
kv get -mount=secret -format=json app/a
kv get secret/app/missing
kv get secret/data/app/a
kv get secret
kv get nowhere/app/a
kv list secret/app
kv list secret
kv list secret/
kv list -mount=secret app
kv list -mount=secret
kv list -format=json secret/app
kv list secret/missing
kv list secret/app/a
kv patch secret/app/a extra=1
kv patch -method=rw secret/app/a extra=2
kv patch -method=patch secret/app/a extra=3
kv patch -method=patch -cas=1 secret/app/a extra=4
kv patch -format=json secret/app/a extra=5
kv patch -method=rw secret/app/missing extra=1
kv patch -method=patch secret/app/missing extra=1
"{"j":2}" kv patch secret/app/c -
kv rollback -version=1 secret/app/a
kv rollback -version=99 secret/app/a
kv rollback secret/app/a
kv delete secret/app/a
kv get secret/app/a
kv get -format=json secret/app/a
kv delete -versions=1,2 secret/app/a
kv get -version=1 secret/app/a
kv undelete -versions=1,2 secret/app/a
kv get -version=1 secret/app/a
kv destroy -versions=1 secret/app/a
kv get -version=1 secret/app/a
kv get -format=json -version=1 secret/app/a
kv delete -mount=secret app/b
kv undelete -mount=secret -versions=1 app/b
kv destroy -mount=secret -versions=1 app/b
kv metadata get secret/app/a
kv metadata get -format=json secret/app/a
kv metadata get -mount=secret app/a
kv metadata get secret/app/missing
kv metadata put -max-versions=5 -custom-metadata=own=me -custom-metadata=team=x secret/app/a
kv metadata put -delete-version-after=1h secret/app/fresh
kv metadata get secret/app/fresh
kv metadata patch -custom-metadata=own2=me secret/app/a
kv metadata patch -custom-metadata=own2=me secret/app/missing
kv metadata get -format=json secret/app/a
kv get secret/app/a
kv metadata delete secret/app/c
kv metadata delete secret/app/missing
kv metadata put -cas-required=true secret/app/e
kv put secret/app/e a=3
kv put -cas=2 secret/app/e a=3
kv list secret/app
read secret/data/app/e
read -format=json secret/data/app/e
read -field=data secret/data/app/e
read secret/data/app/e version=1
read secret/data/app/missing
read secret/metadata/app/e
"{"data":{"w":"1"}}" write secret/data/app/w -
"{"data":{"w":"1"}}" write -format=json secret/data/app/w -
write secret/data/app/w w=1
write -force secret/data/app/w
list secret/metadata/app
list -format=json secret/metadata/app
list secret/metadata/missing
delete secret/data/app/w
delete secret/metadata/app/w
delete secret/metadata/app/w
read secret/config
write secret/config max_versions=7
read secret/config
kv put secret/app/umlaut-grün/ключ k=v
kv get secret/app/umlaut-grün/ключ
"{"sp ace":"x"}" kv put secret/with+plus/a@b~c:d -
kv get secret/with+plus/a@b~c:d
kv list secret/app
`

// kv1 is the same on a version 1 mount.
const kv1 = `
kv put kv1/app/a user=u pass=p
kv put kv1/app/a user=u2
kv put -cas=1 kv1/app/a user=u2
kv put -mount=kv1 app/b k=v
"{"j":1,"n":{"x":[1,2]}}" kv put kv1/app/c -
kv get kv1/app/a
kv get -format=json kv1/app/a
kv get -format=yaml kv1/app/c
kv get -field=user kv1/app/a
kv get -field=nope kv1/app/a
kv get -mount=kv1 app/a
kv get -version=1 kv1/app/a
kv get kv1/app/missing
kv list kv1/app
kv list kv1
kv list -format=json kv1/app
kv list -mount=kv1 app
kv list kv1/missing
kv patch kv1/app/a x=y
kv rollback -version=1 kv1/app/a
kv undelete -versions=1 kv1/app/a
kv destroy -versions=1 kv1/app/a
kv metadata get kv1/app/a
kv metadata put -max-versions=5 kv1/app/a
kv metadata delete kv1/app/a
kv delete kv1/app/a
kv delete kv1/app/a
kv get kv1/app/a
kv delete -mount=kv1 app/b
read kv1/app/c
read -format=json kv1/app/c
read -field=j kv1/app/c
write kv1/app/w a=b c=d
write -force kv1/app/w
read kv1/app/w
list kv1/app
delete kv1/app/w
read kv1/app/w
kv list kv1/app
`

// few is what somebody may do who may not do everything, and what becomes of the rest.
const few = `
kv get secret/mine/a
kv get secret/theirs/a
kv get -mount=secret theirs/a
kv put secret/mine/a k=2
kv put secret/theirs/a k=2
kv list secret/mine
kv list secret/theirs
kv delete secret/mine/a
kv patch secret/mine/a k=3
kv patch -method=rw secret/mine/a k=4
kv metadata get secret/mine/a
kv metadata get secret/theirs/a
kv get nowhere/a
read secret/data/mine/a
read secret/data/theirs/a
write secret/data/theirs/a x=1
list secret/metadata/mine
list secret/metadata/theirs
delete secret/data/theirs/a
read nowhere/a
`

const fewRules = `path "secret/data/mine/*" {
  capabilities = ["create", "read", "update"]
}
path "secret/metadata/mine/" {
  capabilities = ["list"]
}
path "secret/metadata/mine" {
  capabilities = ["list"]
}
`

func TestTheSameCommandsDoTheSame(t *testing.T) {
	direct := testenv.NewVault(t)
	s := newStage(t, testenv.BailiffOptions{})
	for _, addr := range [][]string{vaultEnv(direct.Addr, direct.RootToken), vaultEnv(s.a.Addr, s.a.RootToken)} {
		mustVault(t, addr, "secrets", "enable", "-path=kv1", "-version=1", "kv")
	}
	s.apply("mount \"kv1\" {\n  type = \"vault\"\n  target = \"a\"\n}\n")
	everything, err := s.b.NewIdentity(t.Context(), "everybody", "everything")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("KV version 2", func(t *testing.T) {
		compare(t, kv2, vaultEnv(direct.Addr, direct.RootToken), vaultEnv(s.b.Addr, everything))
	})
	t.Run("KV version 1", func(t *testing.T) {
		compare(t, kv1, vaultEnv(direct.Addr, direct.RootToken), vaultEnv(s.b.Addr, everything))
	})
	t.Run("with little permission", func(t *testing.T) {
		mine := s.identity("few", fewRules)
		theirs := fewToken(t, direct)
		for _, env := range [][]string{vaultEnv(direct.Addr, direct.RootToken), vaultEnv(s.a.Addr, s.a.RootToken)} {
			mustVault(t, env, "kv", "put", "secret/mine/a", "k=1")
			mustVault(t, env, "kv", "put", "secret/theirs/a", "k=1")
		}
		compare(t, few, vaultEnv(direct.Addr, theirs), vaultEnv(s.b.Addr, mine))
	})
}

// fewToken makes a token with fewRules on a Vault itself.
func fewToken(t *testing.T, v *testenv.VaultServer) string {
	t.Helper()
	env := vaultEnv(v.Addr, v.RootToken)
	stdout, stderr, code := testenv.RunCLI(t, fewRules, testenv.VaultBinary(t), env, "policy", "write", "few", "-")
	if code != 0 {
		t.Fatal(stdout, stderr)
	}
	return strings.TrimSpace(mustVault(t, env, "token", "create", "-policy=few", "-field=token"))
}

func mustVault(t *testing.T, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, code := testenv.VaultCLI(t, env, args...)
	if code != 0 {
		t.Fatalf("vault %s: status %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// compare runs the same command lines in both environments. What they print and how they end must be the same, but for
// what is another in every run.
func compare(t *testing.T, script string, direct, through []string) {
	t.Helper()
	bin := testenv.VaultBinary(t)
	for line := range strings.Lines(strings.TrimSpace(script)) {
		stdin, args := parse(line)
		do := func(env []string) string {
			stdout, stderr, code := testenv.RunCLI(t, stdin, bin, env, args...)
			return fmt.Sprintf("status %d\n%s\n-- standard error:\n%s", code, mask(stdout), mask(stderr))
		}
		want, got := do(direct), do(through)
		t.Logf("vault %s: %s", strings.Join(args, " "), strings.SplitN(want, "\n", 2)[0])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("vault %s: through Bailiff (+) it is another than directly (-):\n%s", strings.Join(args, " "), diff)
		}
	}
}

// parse parts the text for standard input from the words of a command line.
func parse(line string) (stdin string, args []string) {
	line = strings.TrimSpace(line)
	if i := strings.LastIndex(line, `" `); i > 0 && line[0] == '"' {
		stdin, line = line[1:i], line[i+2:]
	}
	return stdin, strings.Fields(line)
}

// volatile is what differs between two runs, and widths that follow from it.
var volatile = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`kv_[0-9a-f]{8}`), "ACCESSOR"},
	{regexp.MustCompile(`  +`), "  "},
	{regexp.MustCompile(`--+`), "--"},
	{regexp.MustCompile(`==+`), "=="},
}

func mask(s string) string {
	for _, v := range volatile {
		s = v.find.ReplaceAllString(s, v.put)
	}
	return s
}

func TestCommandsAboutTheServerAndTheToken(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token := s.identity("app", "path \"secret/data/app/*\" {\n  capabilities = [\"read\", \"create\"]\n}\n"+
		"path \"sys/policies/acl/*\" {\n  capabilities = [\"read\", \"list\"]\n}\npath \"sys/policies/acl\" {\n  capabilities = [\"list\"]\n}\n"+
		"path \"sys/mounts\" {\n  capabilities = [\"read\"]\n}\n")
	for _, tc := range []struct {
		line string
		code int
		want []string // in the output
	}{
		{line: "status", want: []string{"Sealed  false", "Initialized  true"}},
		{line: "status -format=json", want: []string{`"sealed": false`}},
		{line: "token lookup", want: []string{"policies", "app"}},
		{line: "token lookup -format=json", want: []string{`"policies"`, `"app"`, `"default"`, `"lease_id": ""`}},
		{line: "token capabilities secret/data/app/x", want: []string{"create, read"}},
		{line: "token capabilities secret/data/else", want: []string{"deny"}},
		{line: "login " + token, want: []string{"Success! You are now authenticated", "token_policies"}},
		{line: "login -no-print " + token},
		{line: "login p-nobody..nothing", code: 2, want: []string{"permission denied"}},
		{line: "secrets list", want: []string{"secret/", "other/", "kv"}},
		{line: "secrets list -format=json", want: []string{`"secret/"`, `"version": "2"`}},
		{line: "policy list", want: []string{"app", "default"}},
		{line: "policy read app", want: []string{"secret/data/app/*"}},
		{line: "policy read nothing", code: 2, want: []string{"No policy named"}},
		{line: "kv get secret/app/missing", code: 2, want: []string{"No value found at secret/data/app/missing"}},
	} {
		t.Run(strings.ReplaceAll(tc.line, token, "TOKEN"), func(t *testing.T) {
			stdout, stderr, code := testenv.VaultCLI(t, vaultEnv(s.b.Addr, token), strings.Fields(tc.line)...)
			if code != tc.code {
				t.Errorf("status: got %d, want %d\n%s%s", code, tc.code, stdout, stderr)
			}
			for _, want := range tc.want {
				if !strings.Contains(mask(stdout+stderr), want) {
					t.Errorf("got\n%s%swant %q in it", stdout, stderr, want)
				}
			}
		})
	}
}

func TestTwoVaultsAtOneAddress(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token, err := s.b.NewIdentity(t.Context(), "everybody", "everything")
	if err != nil {
		t.Fatal(err)
	}
	s.vault(token, "kv", "put", "secret/x", "of=a")
	s.vault(token, "kv", "put", "other/x", "of=z")
	for _, tc := range []struct {
		name, addr, token, path, want string
	}{
		{"through Bailiff", s.b.Addr, token, "secret/x", "a"},
		{"through Bailiff", s.b.Addr, token, "other/x", "z"},
		{"on the one Vault", s.a.Addr, s.a.RootToken, "secret/x", "a"},
		{"on the other Vault", s.z.Addr, s.z.RootToken, "secret/x", "z"},
	} {
		got := strings.TrimSpace(mustVault(t, vaultEnv(tc.addr, tc.token), "kv", "get", "-field=of", tc.path))
		if got != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.path, tc.name, got, tc.want)
		}
	}
}
