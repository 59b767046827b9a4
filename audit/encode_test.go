package audit_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/audit"
)

// filled is a record in which every field that is written differs from its zero value.
func filled(t *testing.T, text string) *audit.Record {
	t.Helper()
	r := &audit.Record{}
	fill(t, reflect.ValueOf(r).Elem(), text)
	r.V, r.Seq, r.Time = audit.Schema, 7, time.Date(2026, 11, 24, 15, 0, 0, 120, time.UTC)
	return r
}

func fill(t *testing.T, v reflect.Value, text string) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i)
		switch {
		case name.Tag.Get("json") == "-", name.Type == reflect.TypeFor[time.Time]():
		case f.Kind() == reflect.String:
			f.SetString(name.Name + text)
		case f.CanInt():
			f.SetInt(int64(-41 - i))
		case f.CanUint():
			f.SetUint(uint64(41 + i))
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			fill(t, f.Elem(), text)
		default:
			t.Fatalf("field %s of type %s: the test, and maybe the encoder, don't know it", name.Name, name.Type)
		}
	}
}

// TestEveryFieldIsWritten fails when a field is added to Record that the encoder doesn't know.
func TestEveryFieldIsWritten(t *testing.T) {
	for _, text := range []string{"", ` "quoted" \ back`, "\x00\x1f\n\t\x7f", "é ☃ 𝄞 \u2028 <&>", "\ufffd"} {
		want := filled(t, text)
		b, err := audit.EncodeRecord(want)
		if err != nil {
			t.Fatal(err)
		}
		var got audit.Record
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if d := cmp.Diff(want, &got); d != "" {
			t.Errorf("%q: read back (-want +got):\n%s", text, d)
		}
	}
}

// TestWrittenAsJSONWould compares with encoding/json, also in what is left out.
func TestWrittenAsJSONWould(t *testing.T) {
	empty := &audit.Record{V: audit.Schema, Seq: 7, Time: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, r := range []*audit.Record{empty, filled(t, " \"x\" \x01 \xff")} {
		b, err := audit.EncodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got, std map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if err := json.Unmarshal(want, &std); err != nil {
			t.Fatal(err)
		}
		delete(got, "time") // always nine digits
		delete(std, "time")
		if d := cmp.Diff(std, got); d != "" {
			t.Errorf("got %s (-encoding/json +ours):\n%s", b, d)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("plain", int64(0))
	f.Add("\xff\"\\\x00\u2028", int64(1))
	f.Fuzz(func(t *testing.T, s string, nanos int64) {
		r := &audit.Record{Time: time.Unix(0, nanos), Path: s}
		b, err := audit.EncodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(b) {
			t.Fatalf("%q: invalid UTF-8 in %q", s, b)
		}
		var got audit.Record
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if !got.Time.Equal(r.Time) || utf8.ValidString(s) && got.Path != s {
			t.Fatalf("got %v %q, want %v %q", got.Time, got.Path, r.Time, s)
		}
	})
}
