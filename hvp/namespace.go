package hvp

import (
	"net/http"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
)

// namespace reads where a request is meant to be, beside its path. "root" is where everything begins, as in Vault.
func namespace(q *gate.Request, h http.Header) *no {
	given, why := single(h, "X-Vault-Namespace")
	if why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	ns := strings.Trim(given, "/")
	if ns == "" || ns == "root" {
		return nil
	}
	if vpath.Check(ns) != nil {
		return &no{kind: gate.Invalid, why: "the namespace is not a path"}
	}
	q.Namespace = ns
	return nil
}
