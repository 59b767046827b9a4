package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const sector = 512 // what a disk writes as a whole, or not at all

// tail judges the bytes of f from good, where no frame begins, to size. It returns how many they are when a crash explains
// them: nothing valid follows, or only frames of the batch that was being written, behind a hole that was not.
func tail(f *os.File, path string, good, size int64, head Head) (int64, error) {
	b := make([]byte, size-good)
	if _, err := f.ReadAt(b, good); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read audit segment: %w", err)
	}
	first := true
	for i := 0; ; i++ {
		n := bytes.Index(b[i:], []byte(marker))
		if n < 0 {
			return size - good, nil
		}
		i += n
		fr, err := parseFrame(b[i:])
		if err != nil {
			continue
		}
		begin := good + int64(i) - int64(fr.back) // of its batch
		if begin > good {
			return 0, hopeless(path, good, head, fmt.Errorf("a later batch lies whole at byte %d", good+int64(i)))
		}
		if first && !hole(b, int(good%sector), i) {
			return 0, hopeless(path, good, head, fmt.Errorf("a record lies whole at byte %d", good+int64(i)))
		}
		first = false
		i += int(fr.size()) - 1
	}
}

// hole says whether a sector between the bad byte b[0], which lies skew bytes into one, and b[end] was never written. The
// sector in which b[0] lies counts only from b[0]: what comes before may have been there already.
func hole(b []byte, skew, end int) bool {
	for from, to := 0, sector-skew; from < end; from, to = to, to+sector {
		if to = min(to, len(b)); len(bytes.Trim(b[from:to], "\x00")) == 0 {
			return true
		}
	}
	return false
}
