//go:build !profiles

package server

import "net/http"

// profiles adds nothing in every build but those made for measuring.
func profiles(*http.ServeMux) {}
