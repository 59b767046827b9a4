package audit

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseTime reads a point in time as people write it: how long ago ("90d", "2w", "1h30m", "1d12h"), RFC 3339, or a day
// ("2026-11-01": its beginning where now is).
func ParseTime(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t, nil
	}
	if d, ok := ago(s); ok {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("time %q: want how long ago (90d, 1h30m), RFC 3339 (2026-11-01T08:00:00Z) or a day (2026-11-01)", s)
}

// ago reads a duration that may begin with weeks and days.
func ago(s string) (time.Duration, bool) {
	const day = 24 * time.Hour
	var total time.Duration
	rest, found := s, false
	for _, unit := range []struct {
		letter string
		length time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		digits, after, ok := strings.Cut(rest, unit.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * unit.length
		rest, found = after, true
	}
	if rest == "" {
		return total, found
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || strings.ContainsAny(rest, "+-") || total+d < total {
		return 0, false
	}
	return total + d, true
}
