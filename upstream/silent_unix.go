//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// stillness finds out whether anything has come on an idle connection. It is used by one goroutine at a time.
type stillness struct {
	raw  syscall.RawConn // nil: it can't be told
	look func(fd uintptr) bool
	got  error
	one  [1]byte
}

func (s *stillness) watch(c net.Conn) {
	if sc, ok := c.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn() //nolint:errcheck // a connection that is closed shows that at once
	}
	s.look = func(fd uintptr) bool {
		_, _, s.got = syscall.Recvfrom(int(fd), s.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	}
}

// silent tells whether nothing has come: neither an end, after which a request would be lost, nor bytes, which could only be
// the answer to no request. Nothing is read.
func (s *stillness) silent() bool {
	if s.raw == nil {
		return true
	}
	err := s.raw.Read(s.look)
	return err == nil && (errors.Is(s.got, syscall.EAGAIN) || errors.Is(s.got, syscall.EINTR))
}
