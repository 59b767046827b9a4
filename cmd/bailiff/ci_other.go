//go:build !linux

package main

import "syscall"

// dieWithParent is nothing where a system can't do it.
func dieWithParent() *syscall.SysProcAttr { return nil }
