package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync makes the data of f durable, and of its metadata what is needed to read it back.
func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
