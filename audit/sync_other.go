//go:build unix && !linux

package audit

import "os"

// fdatasync makes f durable.
func fdatasync(f *os.File) error { return f.Sync() }
