package h1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// watches says that gone works here.
const watches = true

// gone tells whether the other side has closed the connection, or its own direction of it, whatever may still be unread.
func gone(raw syscall.RawConn) bool {
	var over bool
	err := raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p[:], 0)
		over = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || over
}
