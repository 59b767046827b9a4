package rows_test

import (
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/rows"
)

func newKeys(t *testing.T) *rows.Keys {
	t.Helper()
	root, err := seal.CreateRootKey(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, sealer, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	k := new(rows.Keys)
	k.Use(sealer)
	return k
}

func TestSecretsOpenWhereTheyWereSealed(t *testing.T) {
	k := newKeys(t)
	r := object.Record{Kind: object.KindTarget, Name: "pg", Secrets: map[string]secret.Value{"password": secret.New("\xff\x00é")}}
	sealed, err := k.SealSecrets(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.OpenSecrets(r, sealed); err != nil || got["password"].Reveal() != "\xff\x00é" {
		t.Errorf("got %v, %v", got, err)
	}
	r.Name = "other"
	if _, err := k.OpenSecrets(r, sealed); err == nil {
		t.Error("another object's secrets were opened")
	}
	if sealed, err := k.SealSecrets(object.Record{}); sealed != nil || err != nil {
		t.Errorf("no secrets: got %v, %v, want nothing", sealed, err)
	}
}

func TestPasswordsOpenWhereTheyWereSealed(t *testing.T) {
	k := newKeys(t)
	a := &rotation.Account{Mount: "database/", Name: "app", Current: secret.New("now"), Next: secret.New("then")}
	sealed, err := k.SealPasswords(a)
	if err != nil {
		t.Fatal(err)
	}
	b := &rotation.Account{Mount: "database/", Name: "app", Previous: secret.New("stale")}
	if err := k.OpenPasswords(b, sealed); err != nil || b.Current.Reveal() != "now" || b.Next.Reveal() != "then" || !b.Previous.Empty() {
		t.Errorf("got %v", err)
	}
	if err := k.OpenPasswords(&rotation.Account{Name: "database/app2"}, sealed); err == nil {
		t.Error("another account's passwords were opened")
	}
	if err := new(rows.Keys).OpenPasswords(b, sealed); !errors.Is(err, rows.ErrNoSealer) {
		t.Errorf("without a sealer: got %v", err)
	}
}

func TestTimesThatAColumnHolds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	if got := rows.Time(rows.Nanos(now)); !got.Equal(now) {
		t.Errorf("got %v, want %v", got, now)
	}
	for at, nanos := range map[time.Time]int64{
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC): math.MinInt64, time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC): math.MaxInt64,
	} {
		if rows.Nanos(at) != nanos || rows.CheckTimes(now, at) == nil {
			t.Errorf("%v is out of range, and was taken", at)
		}
	}
	if err := rows.CheckTimes(now, time.Time{}); err != nil {
		t.Error(err)
	}
}
