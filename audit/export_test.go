package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Waiting is how many calls of Append stand in the queue.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// HeaderBytes is where the first frame of a segment begins.
const HeaderBytes = headerBytes

// Frame is what ReadFrames found.
type Frame struct {
	Off, End int64
	Record   []byte
}

// ReadFrames reads the frames of b up to the first bytes that are not one, and says where that is and why.
func ReadFrames(b []byte) (found []Frame, off int64, why error) {
	in := readFrames(bytes.NewReader(b), 0, int64(len(b)))
	for {
		f, err := in.next()
		if errors.Is(err, io.EOF) {
			return found, in.off, nil
		}
		if err != nil {
			return found, in.off, err
		}
		found = append(found, Frame{Off: f.off, End: in.off, Record: bytes.Clone(f.record)})
	}
}

// AppendFrame appends a frame around record, as the first of its batch, with an empty chain hash.
func AppendFrame(b, record []byte) []byte {
	f := append(make([]byte, frameHead), record...)
	return append(b, sealFrame(f, 0, &Hash{})...)
}

// EncodeRecord is the JSON of r as it is written.
func EncodeRecord(r *Record) ([]byte, error) {
	return appendTail([]byte(recordHead+"7"), r)
}

// Reseal makes the checksum of the header that b begins with right again.
func Reseal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[headerBytes-4:], crc32.Checksum(b[:headerBytes-4], castagnoli()))
	return b
}
