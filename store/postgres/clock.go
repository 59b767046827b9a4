package postgres

import (
	"context"
	"fmt"
	"time"
)

// maxSkew is how far clocks may be apart.
const maxSkew = 5 * time.Second

// Skew is how far the database's clock is ahead of this machine's, less what the way there may account for.
func (db *DB) Skew(ctx context.Context) (time.Duration, error) {
	if err := db.begin(ctx); err != nil {
		return 0, err
	}
	defer db.begun.Done()
	d, err := db.skew(ctx)
	if err != nil {
		return 0, fmt.Errorf("asking the store for its time: %w", ended(ctx, err))
	}
	return d, nil
}

// skew asks for the time once.
func (db *DB) skew(ctx context.Context) (time.Duration, error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	var micros int64
	before := time.Now()
	if err := conn.QueryRow(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan(&micros); err != nil {
		return 0, err
	}
	way := time.Since(before) / 2
	d := time.UnixMicro(micros).Sub(db.now().Add(-way))
	if d > 0 {
		return max(0, d-way), nil
	}
	return min(0, d+way), nil
}
