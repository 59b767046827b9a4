package server

import (
	"context"
	"fmt"
	"time"
)

// passwordWait bounds how long the start waits for targets whose own password was being changed when the last process ended.
const passwordWait = 5 * time.Second

// ownPasswords makes sure of the passwords as which Bailiff works, before anything is served.
func (s *server) ownPasswords(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passwordWait)
	defer cancel()
	if err := s.rotations.Recover(ctx); err != nil {
		return fmt.Errorf("read the accounts whose passwords change: %w", err)
	}
	return nil
}
