package cert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/cert"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world serves TLS and asks for certificates, as the server does.
func world(t *testing.T) *authtest.World {
	front := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		return s
	}
	return authtest.New(t, authtest.Options{Front: front}, func(auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"cert": cert.New()}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holder has a certificate and its key.
type holder struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (h *holder) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.cert.Raw}))
}

var serial int64

// issue makes a certificate; by itself where by is nil.
func issue(t *testing.T, by *holder, template x509.Certificate) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	serial++
	template.SerialNumber = big.NewInt(serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := &template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return &holder{t, c, key}
}

func authority(t *testing.T, by *holder, name string) *holder {
	return issue(t, by, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
}

func client(t *testing.T, by *holder, name string, edit func(c *x509.Certificate)) *holder {
	c := x509.Certificate{Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"ops"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if edit != nil {
		edit(&c)
	}
	return issue(t, by, c)
}

// login logs in with a certificate, and those between it and its authority.
func login(w *authtest.World, h *holder, between ...*holder) *authtest.Answer {
	return loginAs(w, "", h, between...)
}

func loginAs(w *authtest.World, role string, h *holder, between ...*holder) *authtest.Answer {
	transport := w.Client.Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if h != nil {
		pair := tls.Certificate{Certificate: [][]byte{h.cert.Raw}, PrivateKey: h.key}
		for _, b := range between {
			pair.Certificate = append(pair.Certificate, b.cert.Raw)
		}
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	s := w.Server
	s.Client = &http.Client{Transport: transport}
	return s.SendAs("", "POST", "auth/cert/login", map[string]string{"name": role})
}

func TestACertificateOfAnAuthorityLogsIn(t *testing.T) {
	w, ca, other := world(t), authority(t, nil, "ca"), authority(t, nil, "ca")
	middle := authority(t, ca, "middle")
	w.Must("POST", "sys/auth/cert", `{"type":"cert"}`)
	w.Must("POST", "auth/cert/certs/web", map[string]any{"certificate": ca.pem(), "token_policies": "p", "allowed_metadata_extensions": "1.2.3.4"})
	ann := client(t, ca, "ann", func(c *x509.Certificate) {
		value, err := asn1.Marshal("hello")
		must(t, err)
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: value}}
	})
	if a := login(w, ann); a.Code != http.StatusOK || a.Text("auth.metadata.common_name") != "ann" || a.Text("auth.metadata.1-2-3-4") != "hello" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if s := w.Spec(); s.Alias != "ann" || s.DisplayName != "cert-web" || s.Params.Policies[0] != "p" || s.Metadata["serial_number"] != ann.cert.SerialNumber.String() {
		t.Errorf("got %+v", s)
	}
	if a := login(w, client(t, middle, "bob", nil), middle); a.Code != http.StatusOK {
		t.Errorf("by an authority between: got %d %v", a.Code, a.Body)
	}
	invalid := "invalid certificate or no client certificate supplied"
	for what, h := range map[string]*holder{
		"another authority of the same name": client(t, other, "ann", nil),
		"nobody's":                           client(t, nil, "ann", nil),
		"one that is over": client(t, ca, "ann", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}),
		"one for servers":                        client(t, ca, "ann", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"one whose authority between is missing": client(t, middle, "bob", nil),
	} {
		if a := login(w, h); a.Code != http.StatusBadRequest || a.Errors() != invalid {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
	}
	if end := w.Records("auth/cert/login")[0]; end.Status != audit.Denied {
		t.Errorf("got the record %+v", end)
	}
	if a := login(w, nil); a.Code != http.StatusBadRequest || a.Errors() != "client certificate must be supplied" {
		t.Errorf("none: got %d %v", a.Code, a.Body)
	}
}

func TestACertificateOfAClientIsTrustedByItself(t *testing.T) {
	w, ca := world(t), authority(t, nil, "ca")
	ann := client(t, ca, "ann", nil)
	w.Must("POST", "sys/auth/cert", `{"type":"cert"}`)
	w.Must("POST", "auth/cert/certs/ann", map[string]any{"certificate": ann.pem()})
	if a := login(w, ann); a.Code != http.StatusOK {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
	if a := login(w, client(t, ca, "ann", nil)); a.Code != http.StatusBadRequest {
		t.Errorf("another of the same authority: got %d %v", a.Code, a.Body)
	}
}

func TestWhatACertificateSaysMustFit(t *testing.T) {
	w, ca := world(t), authority(t, nil, "ca")
	w.Must("POST", "sys/auth/cert", `{"type":"cert"}`)
	h := client(t, ca, "ann.example.org", func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{"a.example.org"}, []string{"ann@example.org"}
		u, _ := url.Parse("spiffe://example.org/ns/x/sa/ann")
		c.URIs = []*url.URL{u}
		value, err := asn1.Marshal("team-x")
		must(t, err)
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: value}}
	})
	for n, c := range []struct {
		field, value string
		fits         bool
	}{
		{"allowed_common_names", "*.example.org", true}, {"allowed_common_names", "a.example.org", false},
		{"allowed_dns_sans", "a.example.org", true}, {"allowed_dns_sans", "b.*", false},
		{"allowed_email_sans", "ann@*", true}, {"allowed_email_sans", "bob@*", false},
		{"allowed_uri_sans", "spiffe://example.org/ns/x/*", true}, {"allowed_uri_sans", "spiffe://example.org/ns/y/*", false},
		{"allowed_organizational_units", "dev,ops", true}, {"allowed_organizational_units", "dev", false},
		{"allowed_names", "ann@*", true}, {"allowed_names", "nobody", false},
		{"required_extensions", "1.2.3.4:team-*", true}, {"required_extensions", "1.2.3.4:team-y", false}, {"required_extensions", "1.2.3.5:*", false},
	} {
		role := fmt.Sprintf("r%d", n)
		w.Must("POST", "auth/cert/certs/"+role, map[string]any{"certificate": ca.pem(), c.field: c.value})
		a := loginAs(w, role, h)
		if (a.Code == http.StatusOK) != c.fits || !c.fits && a.Errors() != "no chain matching all constraints could be found for this login certificate" {
			t.Errorf("%s = %s: got %d %v", c.field, c.value, a.Code, a.Body)
		}
	}
	if a := loginAs(w, "nosuch", h); a.Code != http.StatusBadRequest {
		t.Errorf("a role that is not there: got %d %v", a.Code, a.Body)
	}
	if a := login(w, h); a.Code != http.StatusOK {
		t.Errorf("any role that fits: got %d %v", a.Code, a.Body)
	}
}

func TestARevokedCertificateIsRefused(t *testing.T) {
	w, ca, other := world(t), authority(t, nil, "ca"), authority(t, nil, "other")
	w.Must("POST", "sys/auth/cert", `{"type":"cert"}`)
	w.Must("POST", "auth/cert/certs/web", map[string]any{"certificate": ca.pem()})
	ann, bob := client(t, ca, "ann", nil), client(t, ca, "bob", nil)
	write := func(by *holder, serials ...*big.Int) {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		for _, n := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
		must(t, err)
		w.Must("POST", "auth/cert/crls/"+by.cert.Subject.CommonName, map[string]any{"crl": string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))})
	}
	write(other, ann.cert.SerialNumber, bob.cert.SerialNumber) // another authority's numbers
	write(ca, ann.cert.SerialNumber)
	if a := login(w, ann); a.Code != http.StatusBadRequest {
		t.Errorf("ann, who is revoked: got %d %v", a.Code, a.Body)
	}
	if a := login(w, bob); a.Code != http.StatusOK {
		t.Errorf("bob, who isn't: got %d %v", a.Code, a.Body)
	}
	w.Must("DELETE", "auth/cert/crls/ca", nil)
	if a := login(w, ann); a.Code != http.StatusOK {
		t.Errorf("ann, without the list: got %d %v", a.Code, a.Body)
	}
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff: everything but logins, for which Vault would need TLS.
func TestAnswersAreVaults(t *testing.T) {
	w, ca := world(t), authority(t, nil, "ca")
	server := issue(t, ca, x509.Certificate{Subject: pkix.Name{CommonName: "s"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	const at = "auth/cmpcert/"
	body := func(certificate, more string) string {
		text, _ := json.Marshal(certificate)
		return `{"certificate":` + string(text) + more + `}`
	}
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmpcert", Body: `{"type":"cert"}`},
		{Method: "GET", Path: at + "config", Ignore: []string{"data.ocsp_cache_size"}},
		{Method: "POST", Path: at + "config", Body: `{"disable_binding":true}`},
		{Method: "LIST", Path: at + "certs"},
		{Method: "GET", Path: at + "certs/a"},
		{Method: "POST", Path: at + "certs/a", Body: `{}`},
		{Method: "POST", Path: at + "certs/a", Body: `{"certificate":"nonsense"}`},
		{Method: "POST", Path: at + "certs/a", Body: body(server.pem(), "")},
		{Method: "POST", Path: at + "certs/A", Body: body(ca.pem(), `,"allowed_common_names":"x,y","token_policies":["p"],"ttl":"10m"`)},
		{Method: "GET", Path: at + "certs/a", Ignore: []string{"data.certificate"}},
		{Method: "POST", Path: at + "certs/b", Body: body(ca.pem(), `,"display_name":"B","policies":"b,a"`)},
		{Method: "GET", Path: at + "certs/b", Ignore: []string{"data.certificate"}},
		{Method: "LIST", Path: at + "certs"},
		{Method: "POST", Path: at + "crls/x", Body: `{}`},
		{Method: "GET", Path: at + "crls/x"},
		{Method: "DELETE", Path: at + "crls/x"},
		{Method: "DELETE", Path: at + "certs/a"},
		{Method: "GET", Path: at + "certs/a"},
		{Method: "GET", Path: at + "login", NoToken: true, Code: 405, Words: "unsupported operation"},
		{Method: "DELETE", Path: "sys/auth/cmpcert"},
	})
	if !strings.HasPrefix(w.Addr, "https://") {
		t.Error("the test does not go through TLS")
	}
}
