package broker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// reports keeps the last Report of each target.
type reports struct {
	mu       sync.Mutex
	byTarget map[string]Report
}

func (x *reports) keep(r Report) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byTarget == nil {
		x.byTarget = make(map[string]Report)
	}
	x.byTarget[r.Target] = r
}

// Reports gives the last Report of each target that was reconciled since the broker was made, by name. They are not to be
// changed.
func (b *Broker) Reports() []Report {
	b.reports.mu.Lock()
	defer b.reports.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.reports.byTarget), func(a, b Report) int { return cmp.Compare(a.Target, b.Target) })
}

// CheckSchedule reports what is wrong with a cron expression, if anything is.
func CheckSchedule(text string) error {
	_, err := parseSchedule(text)
	return err
}

func parseSchedule(text string) (cron.Schedule, error) {
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no schedule: write five fields as in cron, such as \"0 3 * * *\", or @daily: %w", text, err)
	}
	return s, nil
}

// sweepLook is the longest time between two looks at the schedules, which may have changed.
const sweepLook = time.Minute

// RunSweeps reconciles each target at its times until ctx ends, and returns nil then. It only reports: what is found is
// acted on by people. Times that passed while nobody ran are not made up for.
func (b *Broker) RunSweeps(ctx context.Context) error {
	if b.cfg.Schedules == nil {
		return nil
	}
	from := now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		t := now()
		due, next := b.sweepsDue(from, t)
		for _, target := range due {
			if _, err := b.Reconcile(ctx, target, ReconcileReport); err != nil && ctx.Err() == nil {
				b.log.Warn("a target can't be reconciled", "target", target, "error", words(err))
			}
		}
		from = t
		timer.Reset(max(0, min(time.Until(next), sweepLook)))
	}
}

// sweepsDue lists the targets with a time in (from, to], by name, and when the next one comes.
func (b *Broker) sweepsDue(from, to time.Time) (due []string, next time.Time) {
	next = to.Add(sweepLook)
	for target, text := range b.cfg.Schedules() {
		s, err := parseSchedule(text)
		if err != nil { // it was checked when the target was declared
			b.log.Error("a target's schedule can't be read", "target", target, "error", err)
			continue
		}
		if at := s.Next(from); !at.IsZero() && !at.After(to) {
			due = append(due, target)
		}
		if at := s.Next(to); !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	slices.Sort(due)
	return due, next
}
