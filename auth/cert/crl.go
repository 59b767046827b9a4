package cert

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// crl is a revocation list, as it was written.
type crl struct{ DER []byte }

func crlKey(name string) string { return "crl/" + strings.ToLower(name) }

// list is a revocation list that can be looked into.
type list struct {
	issuer  []byte // the subject of the authority
	keyID   []byte // of the authority; empty where the list doesn't say
	serials map[string]bool
}

func newList(l *x509.RevocationList) *list {
	out := &list{issuer: l.RawIssuer, keyID: l.AuthorityKeyId, serials: map[string]bool{}}
	for _, e := range l.RevokedCertificateEntries {
		out.serials[e.SerialNumber.String()] = true
	}
	return out
}

func (l *list) has(c *x509.Certificate) bool {
	ours := bytes.Equal(l.issuer, c.RawIssuer) && (len(l.keyID) == 0 || len(c.AuthorityKeyId) == 0 || bytes.Equal(l.keyID, c.AuthorityKeyId))
	return ours && l.serials[c.SerialNumber.String()]
}

// revoked tells whether a certificate of a chain is on a list of its issuer.
func revoked(lists []*list, chain []*x509.Certificate) bool {
	for _, c := range chain {
		for _, l := range lists {
			if l.has(c) {
				return true
			}
		}
	}
	return false
}

func loadLists(ctx context.Context, m *auth.Mount) ([]*list, error) {
	docs, err := auth.List[crl](ctx, m, "crl/")
	if err != nil {
		return nil, err
	}
	out := make([]*list, 0, len(docs))
	for _, d := range docs {
		l, err := x509.ParseRevocationList(d.Value.DER)
		if err != nil {
			return nil, err
		}
		out = append(out, newList(l))
	}
	return out, nil
}

func (x *Method) listCRLs(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "crl/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (x *Method) readCRL(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[crl](ctx, c.At, crlKey(c.Args["name"]))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, auth.Invalid("no such CRL %s", c.Args["name"])
	}
	l, err := x509.ParseRevocationList(d.Value.DER)
	if err != nil {
		return nil, err
	}
	serials := map[string]any{}
	for _, e := range l.RevokedCertificateEntries {
		serials[e.SerialNumber.String()] = map[string]any{}
	}
	return auth.OK(map[string]any{"serials": serials}), nil
}

func (x *Method) writeCRL(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	text := c.Body.Text("crl")
	if c.Body.Has("url") {
		return nil, auth.Invalid("a CRL is not fetched from an address: write it as crl")
	}
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	if text == "" {
		return nil, auth.Invalid("one of 'crl' or 'url' must be provided")
	}
	der := []byte(text)
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	if _, err := x509.ParseRevocationList(der); err != nil {
		return nil, auth.Invalid("failed to parse CRL: it is neither in PEM nor in DER form")
	}
	err := auth.Again(func() error {
		d, err := auth.Load[crl](ctx, c.At, crlKey(c.Args["name"]))
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[crl]{Key: crlKey(c.Args["name"])}
		}
		d.Value.DER = der
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the revocation list " + c.Args["name"]), nil
}

func (x *Method) removeCRL(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := auth.Load[crl](ctx, c.At, crlKey(c.Args["name"]))
		if err != nil {
			return err
		}
		if d == nil {
			return auth.Invalid("no such CRL %s", c.Args["name"])
		}
		return c.At.Write(ctx, d.Remove(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("deleted the revocation list " + c.Args["name"]), nil
}
