package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	marker      = "\xffBA\x01" // a byte that UTF-8 never has, so a record can't hold one
	frameHead   = 16           // marker, length, distance from the start of the batch, CRC
	frameExtra  = frameHead + len(Hash{})
	maxFrame    = frameExtra + MaxRecordBytes
	magic       = "BFAUDIT\n"
	version     = 1
	headerBytes = 80
)

// Why bytes are not a frame.
var (
	errShort  = errors.New("the frame is not whole")
	errMarker = errors.New("no frame begins here")
	errLength = errors.New("the length of the frame is impossible")
	errSum    = errors.New("the checksum of the frame is wrong")
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // the table is made once, by crc32

// frame is one record as it lies in a segment. Record and chain alias the buffer they were read from.
type frame struct {
	off    int64  // where in the segment it begins
	back   uint32 // bytes from the start of its batch
	record []byte
	chain  []byte
}

// size is how many bytes the frame takes.
func (f *frame) size() int64 { return int64(frameExtra + len(f.record)) }

// sealFrame completes the frame that begins at b[start:] with room for its head and then the record. The batch begins at b[0].
func sealFrame(b []byte, start int, chain *Hash) []byte {
	n := len(b) - start - frameHead
	b = append(b, chain[:]...)
	h := b[start:]
	copy(h, marker)
	binary.LittleEndian.PutUint32(h[4:], uint32(n))
	binary.LittleEndian.PutUint32(h[8:], uint32(start))
	binary.LittleEndian.PutUint32(h[12:], frameSum(h))
	return b
}

// frameSum is the checksum of the whole frame h.
func frameSum(h []byte) uint32 {
	t := castagnoli()
	return crc32.Update(crc32.Checksum(h[4:12], t), t, h[frameHead:])
}

// parseFrame reads the frame at the front of b. errShort means that more bytes could make it whole.
func parseFrame(b []byte) (frame, error) {
	if m := min(len(b), len(marker)); string(b[:m]) != marker[:m] {
		return frame{}, errMarker
	}
	if len(b) < frameHead {
		return frame{}, errShort
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n == 0 || n > MaxRecordBytes {
		return frame{}, errLength
	}
	end := frameHead + int(n)
	if len(b) < end+len(Hash{}) {
		return frame{}, errShort
	}
	b = b[:end+len(Hash{})]
	if binary.LittleEndian.Uint32(b[12:]) != frameSum(b) {
		return frame{}, errSum
	}
	return frame{back: binary.LittleEndian.Uint32(b[8:]), record: b[frameHead:end:end], chain: b[end:]}, nil
}

// frames reads the frames of a segment one after another.
type frames struct {
	r    io.ReaderAt
	off  int64 // of the next frame
	end  int64 // of what may be read
	buf  []byte
	have []byte // the unread part of buf; its first byte lies at off
}

// readFrames reads the frames of r between the offsets off and end.
func readFrames(r io.ReaderAt, off, end int64) *frames {
	return readFramesIn(make([]byte, max(0, min(int64(2*maxFrame), end-off))), r, off, end)
}

// readFramesIn is readFrames with a buffer for what is read, which has room for two frames or for all there is.
func readFramesIn(buf []byte, r io.ReaderAt, off, end int64) *frames {
	return &frames{r: r, off: off, end: end, buf: buf}
}

// next returns the next frame, valid until the call after it; io.EOF at the end; a reason why there is no frame at s.off
// (errShort, …); or an error of reading.
func (s *frames) next() (frame, error) {
	if s.off >= s.end {
		return frame{}, io.EOF
	}
	f, err := parseFrame(s.have)
	if errors.Is(err, errShort) && s.off+int64(len(s.have)) < s.end {
		if err := s.fill(); err != nil {
			return frame{}, err
		}
		f, err = parseFrame(s.have)
	}
	if err != nil {
		return frame{}, err
	}
	f.off = s.off
	s.have = s.have[f.size():]
	s.off += f.size()
	return f, nil
}

func (s *frames) fill() error {
	n := copy(s.buf, s.have)
	want := min(int64(len(s.buf)-n), s.end-s.off-int64(n))
	got, err := s.r.ReadAt(s.buf[n:n+int(want)], s.off+int64(n))
	s.have = s.buf[:n+got]
	if int64(got) < want {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read audit segment: %w", err)
	}
	return nil
}

// header is the front of a segment.
type header struct {
	first  uint64 // sequence number of its first record
	before Hash   // chain hash before it
	span   span   // of the segment before it
}

func (h *header) bytes() []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = append(b, h.before[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.span.min))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.span.max))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func parseHeader(b []byte) (header, error) {
	if len(b) < headerBytes {
		return header{}, errors.New("the header is not whole")
	}
	b = b[:headerBytes]
	if !bytes.HasPrefix(b, []byte(magic)) {
		return header{}, errors.New("this is not an audit segment")
	}
	if crc32.Checksum(b[:headerBytes-4], castagnoli()) != binary.LittleEndian.Uint32(b[headerBytes-4:]) {
		return header{}, errors.New("the checksum of the header is wrong")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("version %d of the format is not known here", v)
	}
	h := header{first: binary.LittleEndian.Uint64(b[16:])}
	copy(h.before[:], b[24:])
	h.span.min = int64(binary.LittleEndian.Uint64(b[56:]))
	h.span.max = int64(binary.LittleEndian.Uint64(b[64:]))
	return h, nil
}
