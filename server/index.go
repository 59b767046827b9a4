package server

import (
	"context"
	"path/filepath"

	"github.com/bailiff-secrets/bailiff/audit/index"
)

// openIndex opens the index of the trail, which finds records without reading the whole trail.
func (s *server) openIndex(ctx context.Context) (err error) {
	s.index, err = index.Open(ctx, index.Config{
		Path: filepath.Join(s.cfg.Audit.Dir, "index", "trail.db"), Log: s.trail, Logger: s.logger,
	})
	return err
}
