package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// certificate is a TLS certificate that can be read again while it is in use.
type certificate struct {
	certFile, keyFile string
	now               atomic.Pointer[tls.Certificate]
}

func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.reload()
}

// reload keeps the old certificate where the new one can't be read.
func (c *certificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the TLS certificate: %w", err)
	}
	c.now.Store(&pair)
	return nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequestClientCert, // for logins with one; who has none is served all the same
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.now.Load(), nil
		},
	}
}

// follow reads the certificate again for each value of reload, until it is closed or done is.
func (c *certificate) follow(done <-chan struct{}, reload <-chan struct{}, logger *slog.Logger) {
	for {
		select {
		case <-done:
			return
		case _, ok := <-reload:
			if !ok {
				return
			}
			if err := c.reload(); err != nil {
				logger.Error("the old certificate stays in use", "error", err)
				continue
			}
			logger.Info("the TLS certificate was read again", "file", c.certFile)
		}
	}
}
