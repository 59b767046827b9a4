package audit_test

import (
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 24, 15, 30, 0, 0, zone)
	for s, want := range map[string]time.Time{
		"90d":                       now.Add(-90 * 24 * time.Hour),
		"2w":                        now.Add(-14 * 24 * time.Hour),
		"1w2d":                      now.Add(-9 * 24 * time.Hour),
		"1d12h":                     now.Add(-36 * time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"45s":                       now.Add(-45 * time.Second),
		"0s":                        now,
		" 15m ":                     now.Add(-15 * time.Minute),
		"2026-11-01":                time.Date(2026, 11, 1, 0, 0, 0, 0, zone),
		"2026-11-01T08:00:00Z":      time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC),
		"2026-11-01T08:00:00.5Z":    time.Date(2026, 11, 1, 8, 0, 0, 5e8, time.UTC),
		"2026-11-01T08:00:00+02:00": time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC),
	} {
		got, err := audit.ParseTime(s, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "90", "-1h", "+1h", "1d-1h", "-2d", "1.5d", "1d2w", "1d1d", "99999d", "yesterday", "2026-13-01", "2026-11-01 08:00", "9999999h"} {
		if got, err := audit.ParseTime(s, now); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}
