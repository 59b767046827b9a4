package testenv

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// KubernetesServer is a Kubernetes API server with its etcd, and nothing else: there are no nodes and no controllers. Its RBAC
// is on.
type KubernetesServer struct {
	Addr       string // https://127.0.0.1:PORT, which is the issuer of service account tokens too
	CACert     string // PEM
	AdminToken string // of a member of system:masters

	*Process // the API server
	etcd     *Process
}

// Close ends the API server and its etcd.
func (k *KubernetesServer) Close() error { return errors.Join(k.Process.Close(), k.etcd.Close()) }

// StartKubernetes starts an API server, which takes four to nine minutes to build where the cache has none, and waits until it
// is ready.
func (e *Env) StartKubernetes(ctx context.Context) (*KubernetesServer, error) {
	bin, err := e.ToolBinary(ctx, "kubernetes")
	if err != nil {
		return nil, err
	}
	etcd, err := e.program(ctx, "etcd", packages{apt: []string{"etcd-server"}, dnf: []string{"etcd"}, apk: []string{"etcd"}, brew: []string{"etcd"}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return attempts(ctx, 3, func() (*KubernetesServer, error) { return e.startKubernetes(ctx, bin, etcd) })
}

func (e *Env) startKubernetes(ctx context.Context, bin, etcdBin string) (*KubernetesServer, error) {
	port, err := FreePort(3)
	if err != nil {
		return nil, err
	}
	k := &KubernetesServer{Addr: "https://" + loopback(port), AdminToken: "admin-" + strings.ToLower(rand.Text())}
	client, peer := "http://"+loopback(port+1), "http://"+loopback(port+2)
	dir, err := e.NewDir("etcd", nil)
	if err != nil {
		return nil, err
	}
	if k.etcd, err = e.Start(Command{
		Name: "etcd", Path: etcdBin, Dir: dir, Env: cleanEnviron(dir),
		Args: []string{
			"--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--unsafe-no-fsync",
		},
	}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := e.startAPIServer(ctx, k, bin, client, port); err != nil {
		return nil, errors.Join(err, k.etcd.Close())
	}
	return k, nil
}

func (e *Env) startAPIServer(ctx context.Context, k *KubernetesServer, bin, etcd string, port int) error {
	dir, err := e.NewDir("kubernetes", nil)
	if err != nil {
		return err
	}
	key, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens.csv")
	if err := errors.Join(writeRSAKey(key), os.WriteFile(tokens, []byte(k.AdminToken+`,admin,admin-uid,"system:masters"`+"\n"), 0o600)); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if k.Process, err = e.Start(Command{
		Name: "kube-apiserver", Path: bin, Dir: dir, Env: cleanEnviron(dir),
		Args: []string{
			"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
			"--cert-dir=" + filepath.Join(dir, "certs"), "--service-account-issuer=" + k.Addr, "--api-audiences=" + k.Addr,
			"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key, "--token-auth-file=" + tokens,
			"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount",
			"--endpoint-reconciler-type=none", "--v=1",
		},
	}); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := k.WaitReady(ctx, func(ctx context.Context) error { return k.probe(ctx, filepath.Join(dir, "certs", "apiserver.crt")) }); err != nil {
		return errors.Join(err, k.Process.Close())
	}
	return nil
}

func (k *KubernetesServer) probe(ctx context.Context, certFile string) error {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return err
	}
	k.CACert = string(text)
	resp, err := k.Do(ctx, http.MethodGet, "/readyz", "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Do sends a request as the administrator; body is JSON, or empty.
func (k *KubernetesServer) Do(ctx context.Context, method, path, body string) (*http.Response, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(k.CACert)) {
		return nil, errors.New("the API server's certificate can't be read")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	req, err := http.NewRequestWithContext(ctx, method, k.Addr+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+k.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	return client.Do(req)
}

func writeRSAKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// program finds a program, and installs its package where there is none.
func (e *Env) program(ctx context.Context, name string, p packages) (string, error) {
	if path, ok := findProgram(name); ok {
		return path, nil
	}
	unlock, err := e.lock(filepath.Join(e.cache, "packages"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, ok := findProgram(name); ok {
		return path, nil
	}
	if err := e.install(ctx, p); err != nil {
		return "", err
	}
	if path, ok := findProgram(name); ok {
		return path, nil
	}
	return "", fmt.Errorf("%s was installed, but its program was not found", name)
}

// findProgram looks in PATH and where servers are kept.
func findProgram(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/opt/openldap/libexec"} {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path, true
		}
	}
	return "", false
}

var sharedKubernetes = sync.OnceValues(func() (*KubernetesServer, error) {
	env, err := shared.env()
	if err != nil {
		return nil, err
	}
	return env.StartKubernetes(context.Background())
})

// Kubernetes returns the API server that the tests of this process share. Tests keep apart by using namespaces of their own.
func Kubernetes(t testing.TB) *KubernetesServer {
	t.Helper()
	k, err := sharedKubernetes()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
