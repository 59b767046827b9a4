//go:build profiles

package server

import (
	"net/http"
	"net/http/pprof"
)

// profiles lets the metrics listener give profiles of this process.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
}
