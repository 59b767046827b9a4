package postgres

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, x := range []struct {
		sentence, text string
		want           []string
	}{
		{"one statement", "SELECT 1", []string{"SELECT 1"}},
		{"two, and nothing between semicolons", " SELECT 1 ;; \n SELECT 2;", []string{"SELECT 1", "SELECT 2"}},
		{"a semicolon in a string", "SELECT 'a;b'; SELECT 2", []string{"SELECT 'a;b'", "SELECT 2"}},
		{"a doubled quote", "SELECT 'it''s;'; SELECT 2", []string{"SELECT 'it''s;'", "SELECT 2"}},
		{"a backslash in a plain string", `SELECT '\'; SELECT 2`, []string{`SELECT '\'`, "SELECT 2"}},
		{"a backslash in an escape string", `SELECT E'\';'; SELECT 2`, []string{`SELECT E'\';'`, "SELECT 2"}},
		{"a word that ends in e is no escape string", `SELECT type'\'; SELECT 2`, []string{`SELECT type'\'`, "SELECT 2"}},
		{"an identifier in quotes", `SELECT "a;""b"; SELECT 2`, []string{`SELECT "a;""b"`, "SELECT 2"}},
		{"dollar quotes", "DO $$ BEGIN; END $$; SELECT 2", []string{"DO $$ BEGIN; END $$", "SELECT 2"}},
		{"dollar quotes with a tag", "DO $x$ $$;$y$; $x$; SELECT 2", []string{"DO $x$ $$;$y$; $x$", "SELECT 2"}},
		{"a dollar in a name quotes nothing", "SELECT a$b$; SELECT 2 AS c$b$", []string{"SELECT a$b$", "SELECT 2 AS c$b$"}},
		{"a parameter is no quote", "SELECT $1; SELECT $2", []string{"SELECT $1", "SELECT $2"}},
		{"a line comment", "SELECT 1 -- a;b'\n; SELECT 2", []string{"SELECT 1 -- a;b'", "SELECT 2"}},
		{"nested comments", "SELECT 1 /* a; /* b; */ ' */; SELECT 2", []string{"SELECT 1 /* a; /* b; */ ' */", "SELECT 2"}},
		{"only comments are no statement", "-- x\n; /* y */ ;", nil},
		{"nothing", "", nil},
		{"a letter beyond ASCII", "SELECT 'é;' AS é; SELECT 2", []string{"SELECT 'é;' AS é", "SELECT 2"}},
	} {
		got, err := split(x.text)
		if err != nil {
			t.Errorf("%s: %v", x.sentence, err)
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%s: %s", x.sentence, diff)
		}
	}
	for _, text := range []string{"SELECT 'x", `SELECT "x`, "DO $$ x", "DO $a$ $b$", "/* /* */", `SELECT E'\'`} {
		if got, err := split(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

// FuzzSplit: no text makes it panic or run for ever, and what it gives is in the text.
func FuzzSplit(f *testing.F) {
	f.Add("SELECT 1; DO $a$ ; $a$; -- x\n/* /* */ */ E'\\''")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := split(text)
		if err != nil {
			return
		}
		for _, s := range list {
			if strings.TrimSpace(s) == "" || !strings.Contains(text, s) {
				t.Errorf("%q gave %q", text, list)
			}
		}
	})
}

func TestValuesAreOfSafeAlphabets(t *testing.T) {
	name := "bl-readonly-" + strings.Repeat("a", 16)
	good := values{name: name, password: newPassword(), expiration: time.Now()}
	if _, err := good.replacer(); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"short", strings.Repeat("a", 20) + "'", strings.Repeat("a", 20) + `\`, strings.Repeat("a", 20) + "$$", "SCRAM-SHA-256$1:x'$y:z"} {
		v := good
		v.password = password
		if _, err := v.replacer(); err == nil {
			t.Errorf("password %q: got no error", password)
		}
	}
}

func TestPasswords(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		p := newPassword()
		if !regexp.MustCompile(`^[A-Za-z0-9]{24}$`).MatchString(p) || !strings.ContainsAny(p, upper) || !strings.ContainsAny(p, lower) || !strings.ContainsAny(p, digits) {
			t.Errorf("got %q", p)
		}
		if seen[p] {
			t.Error("a password came twice")
		}
		seen[p] = true
	}
}

// TestTimestamp: it means the same in every time zone and DateStyle, and is not cut to the second.
func TestTimestamp(t *testing.T) {
	at := time.Date(2026, 11, 24, 23, 59, 59, 987_000_000, time.FixedZone("", -3600))
	if got, want := timestamp(at), "2026-11-25 00:59:59.987+00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
