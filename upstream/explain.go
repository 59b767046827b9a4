package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/bailiff-secrets/bailiff/gate"
)

// explain turns what went wrong in an exchange into what a client may hear, and tells what was learned about the target.
func (c *client) explain(ctx context.Context, err error) (error, outcome) { //nolint:revive,staticcheck // the error is no failure of explain
	var said *gate.Error
	var dial *dialError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &said):
		return said, unknown
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err(), unknown
	case errors.As(err, &cert):
		return c.down("shows a certificate that is not accepted", err), unreachable
	case errors.As(err, &dial) && ctx.Err() == nil:
		return c.down("can't be reached", err), unreachable
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return gate.Errorf(gate.TargetSlow, "target %s did not answer in time", c.name), reached
	default:
		return c.down("broke off or answered what is not HTTP", err), reached
	}
}

func (c *client) down(why string, err error) *gate.Error {
	return &gate.Error{Kind: gate.TargetDown, Msg: "target " + c.name + " " + why, Err: clean(err)}
}

func nonsense(name, why string) *gate.Error {
	return &gate.Error{Kind: gate.TargetDown, Msg: "target " + name + " " + why}
}

// isClosed tells whether the target closed the connection before it answered anything.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// clean is err for the log. The errors of net/http's parser quote what they could not read, which may hold a secret, so
// only those that can't are kept.
func clean(err error) error {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &op):
		return op
	case errors.As(err, &cert):
		return cert
	case errors.Is(err, errTooMuch):
		return errTooMuch
	case errors.Is(err, errVersion):
		return errVersion
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return errors.New("not an answer that can be read")
}

// unfit says why an answer can't be passed on or understood, or nothing.
func unfit(a *answer) string {
	switch c := a.code; {
	case c == http.StatusServiceUnavailable:
		return "is sealed or not ready to serve"
	case c == 472 || c == 473:
		return "is a standby that does not serve"
	case c >= 300 && c <= 399:
		return "answered with a redirect, which is not followed: its address must be that of a node that serves"
	case c < 200 || c > 599:
		return "answered with a status that makes no sense"
	case a.body.open && !a.body.ended:
		return "answered without saying how long its answer is"
	}
	if e := a.header("Content-Encoding"); e != "" && e != "identity" {
		return "answered in an encoding that was not asked for"
	}
	if t := a.header("Content-Type"); t != "" && t != "application/json" {
		// A page would run in the browser of whoever opens it as if it were Bailiff's own.
		switch t, _, err := mime.ParseMediaType(t); {
		case err != nil:
			return "answered with a content type that can't be read"
		case t == "text/html" || t == "application/xhtml+xml" || t == "image/svg+xml":
			return "answered with a web page: is it a Vault server?"
		}
	}
	return ""
}
