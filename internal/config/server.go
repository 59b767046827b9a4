package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// PlainHTTPSentence is what Listener.PlainHTTPBeyondLoopback must say to let secrets cross a network in the clear.
const PlainHTTPSentence = "I accept that secrets travel in the clear"

// Server is the server's configuration. Default and LoadServer fill in what is not given.
type Server struct {
	Node        string // this server's name in records; default: the host's name
	DataDir     string // what is kept; default /var/lib/bailiff
	RootKeyFile string // the key that everything else is sealed to; default <data_dir>/root.key
	AdminSocket string // where bootstrap talks to the server; default <data_dir>/admin.sock
	Listener    Listener
	Metrics     Metrics
	Limits      Limits
	Tokens      Tokens
	Store       Store
	Audit       Audit
	Log         Log
}

// Listener is where clients come in.
type Listener struct {
	Address                 string // host:port; default 127.0.0.1:8280
	TLSCertFile             string // PEM, with its chain; read again when it changes
	TLSKeyFile              string
	PlainHTTPBeyondLoopback string // PlainHTTPSentence, to listen without TLS on an address that others can reach

	TrustedProxies []string // addresses and CIDR blocks of proxies whose X-Forwarded-For counts
	ProxyProtocol  bool     // connections from TrustedProxies begin with a header of the PROXY protocol, version 1 or 2
}

// Metrics is where Prometheus comes in. It tells no secrets and asks for no token.
type Metrics struct {
	Address string // host:port; default 127.0.0.1:8281; empty: nowhere
}

// Limits guards the server against its clients. All must be above zero.
type Limits struct {
	MaxBody           int64         // bytes of a request's body; default 32 MiB
	RequestTimeout    time.Duration // of a whole request; default 90s
	ReadHeaderTimeout time.Duration // default 10s
	IdleTimeout       time.Duration // of a kept connection; default 2m
	MaxHeaderBytes    int           // default 64 KiB
	MaxConnections    int           // at once; default 4096
}

// Tokens is how long tokens live. Both must be above zero, and the first is not above the second.
type Tokens struct {
	DefaultTTL time.Duration // of one that says nothing; default 768h, as Vault's
	MaxTTL     time.Duration // of any that isn't periodic and isn't root's; default 768h
}

// Store is where objects, access keys and leases are kept. Default: an SQLite file in the data directory, which one server
// alone can use.
type Store struct {
	Postgres *Postgres // a database that several servers share; they need the same root key
}

// Postgres says how to reach the database. Either URL or URLFile is set.
type Postgres struct {
	URL            string // postgres://user@host:port/database?sslmode=verify-full, without a password
	URLFile        string // a file that holds the URL, which may have a password then
	PasswordFile   string // a file that holds the password, where the URL has none
	MaxConnections int    // default 16
}

// Audit is where and how the trail is kept.
type Audit struct {
	Dir         string // default <data_dir>/audit
	SegmentSize int64  // bytes after which a new file is begun; default 128 MiB
	Reserve     int64  // bytes that stay free, so that revocations can be recorded on a full disk; default 256 MiB
}

// Log is what is written to standard error.
type Log struct {
	Level  string // debug, info (default), warn, error
	Format string // json (default), text
}

// Default is a configuration in which only the data directory is chosen.
func Default(dataDir string) *Server {
	s := defaults()
	s.DataDir = dataDir
	s.derive()
	return s
}

// LoadServer reads the server's configuration. A relative path in it is relative to the file's directory. What is wrong is an
// error that names file, line and column where there is one place for it.
func LoadServer(path string) (*Server, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, err
	}
	r := &reader{problems: &problems{}}
	s := defaults()
	if body := r.parse(src, path); body != nil {
		r.read(body, s.root(r))
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", path, err)
	}
	s.derive()
	relative := []*string{&s.DataDir, &s.RootKeyFile, &s.AdminSocket, &s.Audit.Dir, &s.Listener.TLSCertFile, &s.Listener.TLSKeyFile}
	if p := s.Store.Postgres; p != nil {
		relative = append(relative, &p.URLFile, &p.PasswordFile)
	}
	for _, p := range relative {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func defaults() *Server {
	return &Server{
		Node:     hostName(),
		DataDir:  "/var/lib/bailiff",
		Listener: Listener{Address: "127.0.0.1:8280"},
		Metrics:  Metrics{Address: "127.0.0.1:8281"},
		Limits: Limits{
			MaxBody:           32 << 20,
			RequestTimeout:    90 * time.Second,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			MaxConnections:    4096,
		},
		Tokens: Tokens{DefaultTTL: 768 * time.Hour, MaxTTL: 768 * time.Hour},
		Audit:  Audit{SegmentSize: 128 << 20, Reserve: 256 << 20},
		Log:    Log{Level: "info", Format: "json"},
	}
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || !nodeName.MatchString(name) {
		return "bailiff"
	}
	return name
}

// derive fills in the paths that follow from the data directory.
func (s *Server) derive() {
	set := func(p *string, name string) {
		if *p == "" {
			*p = filepath.Join(s.DataDir, name)
		}
	}
	set(&s.RootKeyFile, "root.key")
	set(&s.AdminSocket, "admin.sock")
	set(&s.Audit.Dir, "audit")
}

// root says what the file may hold.
func (s *Server) root(r *reader) block {
	return block{
		attrs: map[string]attr{
			"node":          text(&s.Node),
			"data_dir":      text(&s.DataDir),
			"root_key_file": text(&s.RootKeyFile),
			"admin_socket":  text(&s.AdminSocket),
		},
		blocks: map[string]inner{
			"listener": r.section(map[string]attr{
				"address":                    text(&s.Listener.Address),
				"tls_cert_file":              text(&s.Listener.TLSCertFile),
				"tls_key_file":               text(&s.Listener.TLSKeyFile),
				"plain_http_beyond_loopback": text(&s.Listener.PlainHTTPBeyondLoopback),
				"trusted_proxies":            texts(&s.Listener.TrustedProxies),
				"proxy_protocol":             truth(&s.Listener.ProxyProtocol),
			}),
			"metrics": r.section(map[string]attr{"address": text(&s.Metrics.Address)}),
			"limits": r.section(map[string]attr{
				"max_body":            size(&s.Limits.MaxBody),
				"request_timeout":     duration(&s.Limits.RequestTimeout),
				"read_header_timeout": duration(&s.Limits.ReadHeaderTimeout),
				"idle_timeout":        duration(&s.Limits.IdleTimeout),
				"max_header_bytes":    smallSize(&s.Limits.MaxHeaderBytes),
				"max_connections":     whole(&s.Limits.MaxConnections),
			}),
			"tokens": r.section(map[string]attr{"default_ttl": duration(&s.Tokens.DefaultTTL), "max_ttl": duration(&s.Tokens.MaxTTL)}),
			"store": {read: func(b *hcl.Block) {
				r.read(b.Body, block{blocks: map[string]inner{"postgres": {read: s.postgres(r)}}})
			}},
			"audit": r.section(map[string]attr{
				"dir":          text(&s.Audit.Dir),
				"segment_size": size(&s.Audit.SegmentSize),
				"reserve":      size(&s.Audit.Reserve),
			}),
			"log": r.section(map[string]attr{"level": text(&s.Log.Level), "format": text(&s.Log.Format)}),
		},
	}
}

// postgres reads the block of that name.
func (s *Server) postgres(r *reader) func(b *hcl.Block) {
	return func(b *hcl.Block) {
		p := &Postgres{}
		s.Store.Postgres = p
		r.read(b.Body, block{attrs: map[string]attr{
			"url":             text(&p.URL),
			"url_file":        text(&p.URLFile),
			"password_file":   text(&p.PasswordFile),
			"max_connections": whole(&p.MaxConnections),
		}})
	}
}

var (
	nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

	errPlainHTTP = errors.New("plain HTTP on an address that others can reach: set tls_cert_file and tls_key_file, or write " +
		`plain_http_beyond_loopback = "` + PlainHTTPSentence + `"`)
)

// Validate says everything that is wrong with s, each with its key.
func (s *Server) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(key+": "+format, args...))
	}
	if !nodeName.MatchString(s.Node) {
		bad("node", "use letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or a digit")
	}
	for _, p := range []struct{ key, path string }{
		{"data_dir", s.DataDir}, {"root_key_file", s.RootKeyFile}, {"admin_socket", s.AdminSocket}, {"audit.dir", s.Audit.Dir},
	} {
		if p.path == "" {
			bad(p.key, "it is empty")
		}
	}
	if err := s.Listener.validate(); err != nil {
		bad("listener", "%w", err)
	}
	if s.Metrics.Address != "" {
		if _, err := hostOf(s.Metrics.Address); err != nil {
			bad("metrics.address", "%w", err)
		}
	}
	errs = append(errs, s.Limits.validate()...)
	errs = append(errs, s.Tokens.validate()...)
	if p := s.Store.Postgres; p != nil {
		errs = append(errs, p.validate()...)
	}
	if s.Audit.SegmentSize < 1<<20 {
		bad("audit.segment_size", "it must be at least 1MiB")
	}
	if s.Audit.Reserve < 0 {
		bad("audit.reserve", "it must not be below zero")
	}
	errs = append(errs, s.Log.validate()...)
	return errors.Join(errs...)
}

func (l *Listener) validate() error {
	host, err := hostOf(l.Address)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if (l.TLSCertFile == "") != (l.TLSKeyFile == "") {
		return errors.New("tls_cert_file and tls_key_file belong together: set both or none")
	}
	if p := l.PlainHTTPBeyondLoopback; p != "" && p != PlainHTTPSentence {
		return fmt.Errorf("plain_http_beyond_loopback: it must say %q", PlainHTTPSentence)
	}
	if l.TLSCertFile == "" && !isLoopback(host) && l.PlainHTTPBeyondLoopback == "" {
		return errPlainHTTP
	}
	if _, err := l.Proxies(); err != nil {
		return err
	}
	if l.ProxyProtocol && len(l.TrustedProxies) == 0 {
		return errors.New("proxy_protocol: say in trusted_proxies who speaks it")
	}
	return nil
}

// Proxies is TrustedProxies, read. An address stands for itself alone.
func (l *Listener) Proxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range l.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		switch {
		case err != nil || !p.IsValid():
			return nil, fmt.Errorf(`trusted_proxies: %q is neither an address nor a block of them, as "10.1.0.0/16"`, text)
		case p.Addr().Is4In6():
			return nil, fmt.Errorf("trusted_proxies: write %q as an IPv4 address", text)
		case p.Bits() == 0:
			return nil, fmt.Errorf("trusted_proxies: %q is everybody, so everybody could say who they are", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (p *Postgres) validate() []error {
	var errs []error
	if (p.URL == "") == (p.URLFile == "") {
		errs = append(errs, errors.New("store.postgres: set either url or url_file"))
	}
	if u, err := url.Parse(p.URL); err != nil {
		errs = append(errs, errors.New("store.postgres.url: it is not a URL"))
	} else if _, there := u.User.Password(); there || u.Query().Has("password") {
		errs = append(errs, errors.New("store.postgres.url: it must hold no password: write that to a file and set password_file"))
	}
	if p.MaxConnections < 0 {
		errs = append(errs, errors.New("store.postgres.max_connections: it must not be below zero"))
	}
	return errs
}

func (l *Limits) validate() []error {
	var errs []error
	for _, n := range []struct {
		key string
		n   int64
	}{
		{"max_body", l.MaxBody},
		{"request_timeout", int64(l.RequestTimeout)},
		{"read_header_timeout", int64(l.ReadHeaderTimeout)},
		{"idle_timeout", int64(l.IdleTimeout)},
		{"max_header_bytes", int64(l.MaxHeaderBytes)},
		{"max_connections", int64(l.MaxConnections)},
	} {
		if n.n <= 0 {
			errs = append(errs, fmt.Errorf("limits.%s: it must be above zero", n.key))
		}
	}
	return errs
}

func (t *Tokens) validate() []error {
	if t.DefaultTTL <= 0 || t.MaxTTL < t.DefaultTTL {
		return []error{errors.New("tokens: default_ttl must be above zero, and max_ttl not below it")}
	}
	return nil
}

func (l *Log) validate() []error {
	var errs []error
	if !strings.Contains(" debug info warn error ", " "+l.Level+" ") {
		errs = append(errs, errors.New("log.level: write debug, info, warn or error"))
	}
	if l.Format != "json" && l.Format != "text" {
		errs = append(errs, errors.New("log.format: write json or text"))
	}
	return errs
}

// hostOf takes the host from host:port; it is empty for every address of the machine.
func hostOf(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", errors.New(`write host:port, as "127.0.0.1:8280"`)
	}
	if _, err := net.LookupPort("tcp", port); err != nil { //nolint:noctx // looked up in a file, if at all
		return "", errors.New("its port is no number between 0 and 65535")
	}
	return host, nil
}

// isLoopback says whether only this machine reaches host. A name other than localhost may be anything.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
