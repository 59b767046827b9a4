//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// silent tells whether nothing has come on an idle connection: neither an end, after which a request would be lost, nor
// bytes, which could only be the answer to no request. Nothing is read.
func silent(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var got error
	var one [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, got = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && (errors.Is(got, syscall.EAGAIN) || errors.Is(got, syscall.EINTR))
}
