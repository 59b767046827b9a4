package main

import "syscall"

// dieWithParent makes the system end a command when this process is gone.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
