package main

import (
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

// moment reads a time that a flag gives.
func moment(flag, text string) (time.Time, error) {
	t, err := audit.ParseTime(text, time.Now())
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s: %w", flag, err)
	}
	return t, nil
}
