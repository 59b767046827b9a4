package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// errPortTaken says that a server lost the race for its port: another attempt gets another port.
var errPortTaken = errors.New("the port was taken by another process")

// Ports are chosen below the range from which kernels number outgoing connections, so that only another server can
// take one between our look and its use.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreePort returns the first of n consecutive TCP ports that were free on the loopback address a moment ago.
func FreePort(n int) (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort-n)
		if portsFree(port, n) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports between %d and %d", n, firstPort, lastPort)
}

func portsFree(first, n int) bool {
	var lc net.ListenConfig
	for i := range n {
		l, err := lc.Listen(context.Background(), "tcp", loopback(first+i))
		if err != nil {
			return false
		}
		if l.Close() != nil {
			return false
		}
	}
	return true
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
