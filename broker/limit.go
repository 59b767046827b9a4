package broker

import "time"

// limit is how much may be at work on one target at a time. It grows by one after as many successes as it is, while it is
// used to the full, and is halved when the target shows that this is too much for it.
type limit struct {
	most int
	n    float64
	cut  time.Time // when it was halved last
}

func newLimit(start, most int) limit { return limit{most: most, n: float64(min(start, most))} }

// now is at least 1.
func (l *limit) now() int { return int(l.n) }

// worked takes in a success while inUse were at work.
func (l *limit) worked(inUse int) {
	if inUse >= l.now() {
		l.n = min(l.n+1/l.n, float64(l.most))
	}
}

// tooMuch takes in that work that began then was too much. What began before the last halving says nothing new.
func (l *limit) tooMuch(began, now time.Time) {
	if began.Before(l.cut) {
		return
	}
	l.n, l.cut = max(l.n/2, 1), now
}
