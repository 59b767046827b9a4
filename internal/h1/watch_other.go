//go:build !linux

package h1

import "syscall"

// watches says that gone does not work here, and net/http serves every connection.
const watches = false

func gone(syscall.RawConn) bool { return false }
