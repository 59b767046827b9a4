package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/h1"
)

var addrNone netip.Addr

func TestFrontCleansNothing(t *testing.T) {
	var door, target string
	note := func(name string) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { door, target = name, r.RequestURI })
	}
	f := &front{vault: note("vault"), api: note("api"), ready: func(context.Context) error { return errors.New("not yet") }}
	srv := httptest.NewServer(f)
	defer srv.Close()
	for request, want := range map[string]string{
		"/v1/secret/data/a":            "vault",
		"/v1/secret//data/../a":        "vault",
		"/v1/%2e%2e/sys":               "vault",
		"//v1/secret":                  "vault",
		"/api/v1/audit?path=/v1/x":     "api",
		"/api/v1/../../v1/secret":      "api",
		"/v1/api/v1/":                  "vault",
		"/API/v1/x":                    "vault",
		"/%61pi/v1/x":                  "vault",
		"/livez":                       "200",
		"/readyz":                      "503",
		"/":                            "404",
		"/v1/secret/data/a?x=/api/v1/": "vault",
	} {
		door, target = "", ""
		code := get(t, srv.Listener.Addr().String(), request)
		if door == "" {
			door = code
		} else if target != request {
			t.Errorf("%s: the door saw %q", request, target)
		}
		if door != want {
			t.Errorf("%s: got %s, want %s", request, door, want)
		}
	}
}

// get sends a request target as it is and returns the status code.
func get(t *testing.T, addr, target string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing is kept
	if _, err := c.Write([]byte("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 12)
	if _, err := c.Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b[9:12])
}

// writePair writes a self-signed certificate for 127.0.0.1 under a serial number.
func writePair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, certFile, keyFile, 1)
	c, err := loadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen(t.Context(), "127.0.0.1:0", c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	reload, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); c.follow(ctx.Done(), reload, discard) }()
	srv := h1.New(&http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}, "/v1/")
	served := make(chan error, 1)
	go func() { served <- serveUntil(ctx, srv, ln) }()

	serial := func() int64 {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only the serial number counts
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // nothing is kept
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("at first: got serial %d", got)
	}
	writePair(t, certFile, keyFile, 2)
	if got := serial(); got != 1 {
		t.Errorf("before the signal: got serial %d", got)
	}
	reload <- struct{}{}
	reload <- struct{}{} // taken only after the first was carried out
	if got := serial(); got != 2 {
		t.Errorf("after the signal: got serial %d", got)
	}
	if err := os.WriteFile(certFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- struct{}{}
	reload <- struct{}{}
	if got := serial(); got != 2 {
		t.Errorf("after a broken file: got serial %d, want the old one", got)
	}
	cancel()
	<-done
	if err := <-served; err != nil {
		t.Error(err)
	}
}
