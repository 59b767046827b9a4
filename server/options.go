package server

import (
	"io"
	"time"
)

// Options say how a server is started.
type Options struct {
	ConfigFile string // HCL; empty only with Dev

	Dev               bool   // everything in a temporary directory that goes with the process
	DevVault          string // address of a running Vault to put under governance
	DevVaultTokenFile string // file with a token for it
	DevListen         string // default 127.0.0.1:8280

	Stdout, Stderr io.Writer
	Env            func(string) (string, bool)
	Reload         <-chan struct{} // each value makes the server read its certificate again; may be nil
	Version        string
}

// shutdownGrace is how long requests under way may take to end when the server stops.
const shutdownGrace = 15 * time.Second
