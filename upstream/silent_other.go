//go:build !unix

package upstream

import "net"

// stillness can't be found out here.
type stillness struct{}

func (*stillness) watch(net.Conn) {}

func (*stillness) silent() bool { return true }
