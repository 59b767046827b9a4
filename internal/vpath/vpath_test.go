package vpath_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/internal/vpath/vpathtest"
)

func TestOddTargetsAreRefused(t *testing.T) {
	for _, c := range vpathtest.Odd {
		got, _, err := vpath.Parse(c.Escaped)
		var odd *vpath.OddError
		if !errors.As(err, &odd) {
			t.Errorf("%s: Parse(%.80q) = %.80q, %v, want an OddError", c.Why, c.Escaped, got, err)
			continue
		}
		if got != "" || odd.Why == "" {
			t.Errorf("%s: Parse(%.80q) = %.80q, %v, want no path and a reason", c.Why, c.Escaped, got, err)
		}
	}
}

func TestGoodTargetsAreDecodedOnce(t *testing.T) {
	for _, c := range vpathtest.Good {
		for _, slash := range []string{"", "/", "%2F"} {
			got, dir, err := vpath.Parse(c.Escaped + slash)
			if err != nil || got != c.Path || dir != (slash != "") {
				t.Errorf("Parse(%.80q) = %.80q, %v, %v, want %.80q, %v", c.Escaped+slash, got, dir, err, c.Path, slash != "")
			}
		}
		if err := vpath.Check(c.Path); err != nil {
			t.Errorf("Check(%.80q) = %v, want nil", c.Path, err)
		}
	}
}

func TestTablesAreLongEnough(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range vpathtest.Odd {
		if seen[c.Escaped] || strings.ContainsAny(c.Escaped, " \n?") {
			t.Errorf("%.80q is there twice or can't be written into a request line", c.Escaped)
		}
		seen[c.Escaped] = true
	}
	if len(vpathtest.Odd) < 80 || len(vpathtest.Good) < 40 {
		t.Errorf("got %d odd and %d good targets, want at least 80 and 40", len(vpathtest.Odd), len(vpathtest.Good))
	}
}

func TestReasonsAreExact(t *testing.T) {
	for _, c := range []struct{ escaped, why string }{
		{"", "it is empty"},
		{"/", "it is empty"},
		{"a//b", "it has an empty segment"},
		{"/a", "it has an empty segment"},
		{"a/./b", "it has a segment of dots"},
		{"a/%2e%2e", "it has a segment of dots"},
		{"a\\b", "it holds a backslash"},
		{"a%00", "it holds a control character"},
		{"a%7f", "it holds a control character"},
		{"a%ff", "it is not valid UTF-8"},
		{"a%e2%80%ae", "it holds a character that is not printable"},
		{"a%zz", "a % does not begin a valid escape"},
		{"a%252Fb", "a further layer of encoding hides a slash"},
		{"a/%252e", "behind a further layer of encoding it has a segment of dots"},
		{strings.Repeat("a", vpath.MaxLen+1), "it is longer than 2048 bytes"},
		{strings.Repeat("%61", vpath.MaxLen+1), "it is longer than 2048 bytes"},
		{strings.Repeat("%61", vpath.MaxLen+2), "it is longer than 2048 bytes"},
	} {
		_, _, err := vpath.Parse(c.escaped)
		if err == nil || err.Error() != "the path is not canonical: "+c.why {
			t.Errorf("Parse(%.40q): got %v, want %s", c.escaped, err, c.why)
		}
	}
}

func TestCheckRefusesASlashAtTheEnd(t *testing.T) {
	for _, p := range []string{"", "/", "a/", "/a", "a//b", "..", "a\\b", "a%2Fb", strings.Repeat("a", vpath.MaxLen+1)} {
		if vpath.Check(p) == nil {
			t.Errorf("Check(%.40q) = nil, want an error", p)
		}
	}
}

func TestEscapeHasOneForm(t *testing.T) {
	for p, want := range map[string]string{
		"secret/data/a-b_c.d~e": "secret/data/a-b_c.d~e",
		"a b":                   "a%20b",
		"a+b?c#d%e":             "a%2Bb%3Fc%23d%25e",
		"ü/;=":                  "%C3%BC/%3B%3D",
	} {
		if got := vpath.Escape(p); got != want {
			t.Errorf("Escape(%q) = %q, want %q", p, got, want)
		}
	}
}

func TestWhatIsSentOnIsWhatWasJudged(t *testing.T) {
	segment := rapid.OneOf(
		rapid.StringN(1, 12, -1),
		rapid.StringMatching(`[a-z0-9 .%+?#]{1,12}`),
		rapid.StringMatching(`(%[0-9a-fA-F]{2}|%25|\.|a){1,6}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		p := strings.Join(rapid.SliceOfN(segment, 1, 6).Draw(t, "segments"), "/")
		if vpath.Check(p) != nil {
			t.Skip("not canonical")
		}
		got, dir, err := vpath.Parse(vpath.Escape(p))
		if err != nil || got != p || dir {
			t.Fatalf("Parse(Escape(%q)) = %q, %v, %v", p, got, dir, err)
		}
		got, dir, err = vpath.Parse(vpath.Escape(p + "/"))
		if err != nil || got != p || !dir {
			t.Fatalf("Parse(Escape(%q)) = %q, %v, %v", p+"/", got, dir, err)
		}
	})
}

func TestNothingIsAllocatedWhereNothingIsDecoded(t *testing.T) {
	const p = "secret/data/team/app/db-password"
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := vpath.Parse(p); err != nil || vpath.Escape(p) != p {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// settle decodes p as often as a forgiving reader further on could, and calls each with every result.
func settle(p string, each func(string)) {
	for {
		var b strings.Builder
		for rest := p; rest != ""; {
			if len(rest) >= 3 {
				if c, err := url.PathUnescape(rest[:3]); err == nil && rest[0] == '%' {
					b.WriteString(c)
					rest = rest[3:]
					continue
				}
			}
			b.WriteByte(rest[0])
			rest = rest[1:]
		}
		if b.String() == p {
			return
		}
		p = b.String()
		each(p)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range vpathtest.Odd {
		f.Add(c.Escaped)
	}
	for _, c := range vpathtest.Good {
		f.Add(c.Escaped)
		f.Add(c.Escaped + "/")
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		p, dir, err := vpath.Parse(escaped)
		if err != nil {
			var odd *vpath.OddError
			if !errors.As(err, &odd) {
				t.Fatalf("got %T, want an OddError", err)
			}
			return
		}
		want, err := url.PathUnescape(escaped)
		if dir {
			want = strings.TrimSuffix(want, "/")
		}
		if err != nil || p != want {
			t.Fatalf("got %q, want %q, %v", p, want, err)
		}
		if again, dir, err := vpath.Parse(vpath.Escape(p)); err != nil || again != p || dir {
			t.Fatalf("Parse(Escape(%q)) = %q, %v, %v", p, again, dir, err)
		}
		unhurt(t, p, p)
		settle(p, func(further string) { unhurt(t, p, further) })
	})
}

// unhurt fails where further, which somebody may make of the canonical path p, is something else than a clean path of as
// many segments.
func unhurt(t *testing.T, p, further string) {
	t.Helper()
	if path.Clean("/"+further) != "/"+further || further == "" || len(further) > vpath.MaxLen {
		t.Fatalf("%q comes to %q, which is not clean", p, further)
	}
	if strings.Count(further, "/") != strings.Count(p, "/") {
		t.Fatalf("%q comes to %q, which has other segments", p, further)
	}
	if !utf8.ValidString(further) || strings.ContainsFunc(further, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) }) {
		t.Fatalf("%q comes to %q, which holds what doesn't show", p, further)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, target := range map[string]string{
		"plain":   "secret/data/team/app/db-password",
		"encoded": "secret/data/team%2Fapp%2Fdb-password",
		"layered": "secret/data/team/100%25%2541",
		"odd":     "secret/data/%252e%252e/app",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = vpath.Parse(target)
			}
		})
	}
}
