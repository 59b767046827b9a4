package rotation

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// CheckSchedule reports what is wrong with a cron expression, if anything is.
func CheckSchedule(text string) error {
	_, err := parseSchedule(text)
	return err
}

func parseSchedule(text string) (cron.Schedule, error) {
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no schedule: write five fields as in cron, such as \"0 3 * * SUN\", or @daily: %w", text, err)
	}
	return s, nil
}

// next is when the rotation after one at last is due.
func (r Role) next(last time.Time) (time.Time, error) {
	if r.Schedule == "" {
		return last.Add(r.Period), nil
	}
	s, err := parseSchedule(r.Schedule)
	if err != nil {
		return time.Time{}, err
	}
	return s.Next(last.UTC()), nil
}
