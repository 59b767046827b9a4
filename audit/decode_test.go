package audit_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/audit"
)

// TestDecodeIsEncodingJSON: for every field, with and without what only encoding/json reads.
func TestDecodeIsEncodingJSON(t *testing.T) {
	l := open(t, audit.Config{Dir: t.TempDir()})
	rapid.Check(t, func(rt *rapid.T) {
		r := anyRecord(rt)
		if err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		err := l.Scan(t.Context(), r.Seq-1, func(e audit.Entry) error {
			var want, got audit.Record
			if err := json.Unmarshal(e.Bytes, &want); err != nil {
				return err
			}
			if err := audit.Decode(e.Bytes, &got); err != nil {
				return err
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-json +ours):\n%s", e.Bytes, diff)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// anyRecord fills any of a record's fields.
func anyRecord(t *rapid.T) *audit.Record {
	var r audit.Record
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if !rapid.Bool().Draw(t, name+" is set") || name == "Essential" || name == "MayWait" || name == "Time" {
			continue
		}
		switch f.Kind() {
		case reflect.String:
			f.SetString(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a", "secret/data/x", `q"q`, `b\s`, "}", `{"rule":1}`})).Draw(t, name))
		case reflect.Int, reflect.Int64:
			f.SetInt(rapid.Int64Range(-5, 1<<40).Draw(t, name))
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			f.Elem().FieldByName("Policy").SetString(rapid.String().Draw(t, "policy"))
			f.Elem().FieldByName("Line").SetInt(7)
			f.Elem().FieldByName("Pattern").SetString("secret/*")
		}
	}
	return &r
}

func TestWhatIsNoRecordIsNotDecoded(t *testing.T) {
	for _, text := range []string{"", "{", `{"v":1`, `{"v":1,"seq":2,"time":"x"}`, `{"v":1,"seq":-2}`, `{"v":1,"seq":2}x`, `[1]`} {
		var r audit.Record
		if err := audit.Decode([]byte(text), &r); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}
