package object

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ParseRate reads "10/s", "100/m" or "1000/h": so many in each span of time. An empty text is no limit: zero and zero.
func ParseRate(text string) (n int, every time.Duration, err error) {
	if text == "" {
		return 0, 0, nil
	}
	count, unit, ok := strings.Cut(text, "/")
	n, err = strconv.Atoi(count)
	if !ok || err != nil || n < 1 || n > 1_000_000 {
		return 0, 0, errors.New("it is not a rate")
	}
	switch unit {
	case "s":
		return n, time.Second, nil
	case "m":
		return n, time.Minute, nil
	case "h":
		return n, time.Hour, nil
	}
	return 0, 0, errors.New("it is not a rate")
}
