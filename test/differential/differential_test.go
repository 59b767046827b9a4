package differential_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const everythingRules = `path "*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"]
}
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

// objects is what Bailiff has in front of its Vault.
const objects = `
target "a" {
  type    = "vault"
  address = env("A_ADDR")
  auth {
    method = "token"
    token  = env("A_TOKEN")
  }
}
target "pg" {
  type     = "postgres"
  address  = env("PG_ADDR")
  username = env("PG_USER")
  password = env("PG_PASSWORD")
}
mount "secret" {
  type   = "vault"
  target = "a"
}
mount "kv1" {
  type   = "vault"
  target = "a"
}
mount "transit" {
  type   = "vault"
  target = "a"
}
mount "pki" {
  type   = "vault"
  target = "a"
}
mount "ssh" {
  type   = "vault"
  target = "a"
}
mount "totp" {
  type   = "vault"
  target = "a"
}
mount "database" {
  type = "broker"
}
policy "everything" {
  rules = <<EOT
` + everythingRules + `EOT
}
role "everything" {
  policies = ["everything"]
}
policy "few" {
  rules = <<EOT
` + fewRules + `EOT
}
role "few" {
  policies = ["few"]
}
`

// sides starts a Vault, and a Bailiff in front of another.
func sides(t *testing.T) (vault, bailiff *side) {
	t.Helper()
	var direct, behind *testenv.VaultServer
	var b *testenv.BailiffServer
	var pg *testenv.PostgresServer
	var wg sync.WaitGroup
	testenv.BuildBailiff(t)
	for _, start := range []func(){
		func() { direct = testenv.NewVault(t) }, func() { behind = testenv.NewVault(t) },
		func() { b = testenv.NewBailiff(t, testenv.BailiffOptions{}) }, func() { pg = testenv.NewPostgres(t) },
	} {
		wg.Go(start)
	}
	wg.Wait()
	if direct == nil || behind == nil || b == nil || pg == nil {
		t.FailNow()
	}
	vault, bailiff = newSide(t, direct.Addr, direct.RootToken), newSide(t, b.Addr, b.Token)
	back := newSide(t, behind.Addr, behind.RootToken)
	for _, s := range []*side{vault, back} {
		for mount, options := range map[string]string{
			"kv1": `{"type":"kv","options":{"version":"1"}}`, "transit": `{"type":"transit"}`, "pki": `{"type":"pki"}`,
			"ssh": `{"type":"ssh"}`, "totp": `{"type":"totp"}`,
		} {
			s.must(t, "POST sys/mounts/"+mount+" "+options)
		}
	}
	vault.must(t, `POST sys/mounts/database {"type":"database"}`)
	if err := b.Apply(t.Context(), objects, "A_ADDR="+behind.Addr, "A_TOKEN="+behind.RootToken, "PG_USER="+pg.AdminUser,
		"PG_ADDR=postgres://"+pg.Addr+"/postgres?sslmode=disable", "PG_PASSWORD="+pg.AdminPassword); err != nil {
		t.Fatal(err)
	}
	for name, rules := range map[string]string{"admin": everythingRules, "everything": everythingRules, "few": fewRules} {
		vault.must(t, fmt.Sprintf(`PUT sys/policies/acl/%s {"policy":%q}`, name, rules))
	}
	for _, name := range []string{"everything", "few"} {
		for _, s := range []*side{vault, bailiff} {
			s.must(t, fmt.Sprintf("POST auth/token/create {\"policies\":[%q],\"no_parent\":true}\n> %s = auth.client_token", name, name))
		}
	}
	for _, s := range []*side{vault, bailiff} {
		s.vars["pg"], s.vars["pg-user"], s.vars["pg-password"] = pg.Addr, pg.AdminUser, pg.AdminPassword
	}
	return vault, bailiff
}

// must does a request by the root token that has to be all right.
func (s *side) must(t *testing.T, line string) seen {
	t.Helper()
	lines := strings.Split(line, "\n")
	p, err := newStep(lines[0], "root")
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range lines[1:] {
		if err := p.add(more); err != nil {
			t.Fatal(err)
		}
	}
	out := s.take(t, p)
	if out["status"][0] != '2' {
		t.Fatalf("%s: %v", line, out)
	}
	return out
}

// scripts reads every script; the files are in the order in which they are run.
func scripts(t *testing.T) (files []string, steps map[string][]*step) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts", err)
	}
	steps = map[string][]*step{}
	for _, file := range files {
		if steps[file], err = readScript(file); err != nil {
			t.Fatal(err)
		}
	}
	return files, steps
}

func thePage(t *testing.T) *page {
	t.Helper()
	pg, err := readPage("../../docs/vault-compat.md")
	if err != nil {
		t.Fatal(err)
	}
	return pg
}

// TestNothingTellsThemApart runs the scripts.
func TestNothingTellsThemApart(t *testing.T) {
	pg := thePage(t)
	files, steps := scripts(t)
	vault, bailiff := sides(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, p := range steps[file] {
				var a, b seen
				var wg sync.WaitGroup
				wg.Go(func() { a = vault.take(t, p) })
				wg.Go(func() { b = bailiff.take(t, p) })
				wg.Wait()
				if a == nil || b == nil {
					t.FailNow()
				}
				judge(t, pg, p, a, b)
			}
		})
	}
}

// notYet is the difference of what is not served yet.
const notYet = "not-yet"

// judge says what is different and not allowed, and what is allowed and not different.
func judge(t *testing.T, pg *page, p *step, vault, bailiff seen) {
	t.Helper()
	used := map[string]bool{}
	for _, field := range differences(vault, bailiff) {
		allowed := false
		for _, name := range p.allowed {
			if slices.ContainsFunc(pg.differences[name], func(pattern string) bool { return covers(pattern, field) }) {
				used[name], allowed = true, true
			}
		}
		if used[notYet] {
			t.Logf("%s: %s: %s: not yet the same: Vault %s, Bailiff %s", p.place, p, field, show(vault, field), show(bailiff, field))
		}
		if !allowed {
			t.Errorf("%s: %s: %s: Vault %s, Bailiff %s", p.place, p, field, show(vault, field), show(bailiff, field))
		}
	}
	for _, name := range p.allowed {
		if !used[name] {
			t.Errorf("%s: %s: the difference %q is not there any more", p.place, p, name)
		}
	}
}

// show is what an answer has in a field, in brief.
func show(s seen, field string) string {
	if field == "status" || field == "exit" {
		more := s["errors.0"] + s["stderr"] + s["body"]
		return fmt.Sprintf("%s %.300q", s[field], more)
	}
	if v, ok := s[field]; ok {
		return fmt.Sprintf("%q", v)
	}
	if !s.some(field) {
		return "has none"
	}
	return "has some"
}

// TestThePageSaysWhatIsSeen compares the tables of docs/vault-compat.md with the scripts: each endpoint is a section, and is
// answered as it says.
func TestThePageSaysWhatIsSeen(t *testing.T) {
	pg := thePage(t)
	files, steps := scripts(t)
	differs, sections, used := map[string]bool{}, map[string]bool{}, map[string]bool{}
	count := 0
	for _, file := range files {
		count += len(steps[file])
		for _, p := range steps[file] {
			sections[p.section] = true
			for _, name := range p.allowed {
				differs[p.section], used[name] = true, true
				if pg.differences[name] == nil {
					t.Errorf("%s: the difference %q is not in the page", p.place, name)
				}
			}
		}
	}
	if count < 250 {
		t.Errorf("requests and commands: got %d, want 250 at least", count)
	}
	pg.holds(t, sections, differs)
	for _, name := range slices.Sorted(maps.Keys(pg.differences)) {
		if !used[name] {
			t.Errorf("the difference %q is in the page and in no script", name)
		}
	}
}

// holds compares the endpoints with the sections, and with those in which something differs.
func (pg *page) holds(t *testing.T, sections, differs map[string]bool) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if pg.endpoints[name] == "" {
			t.Errorf("the section %q has no row in the page", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pg.endpoints)) {
		answer := pg.endpoints[name]
		if !sections[name] {
			t.Errorf("the row %q has no section in a script", name)
		}
		if want := answer == "different" || answer == "refused"; sections[name] && differs[name] != want {
			t.Errorf("the row %q says %s; a difference in its section: %t", name, answer, differs[name])
		}
	}
}
