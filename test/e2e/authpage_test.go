package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestTheExamplesOfTheAuthPageRun runs the blocks of docs/auth.md that are marked sh, in their order, with the real vault
// command and our own.
func TestTheExamplesOfTheAuthPageRun(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "auth.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eux\n")
	blocks := 0
	for i, part := range strings.Split(string(page), "\n```") {
		if body, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			script.WriteString(body + "\n")
			blocks++
		}
	}
	if blocks < 9 {
		t.Fatalf("the page has %d blocks that are run", blocks)
	}
	b := testenv.NewBailiff(t, testenv.BailiffOptions{})
	dir := t.TempDir()
	lay(t, dir)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Dir = dir
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"bailiff": b.Program, "vault": testenv.VaultBinary(t)} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = []string{
		"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + dir, "BAILIFF_ADDR=" + b.Addr, "BAILIFF_TOKEN=" + b.Token,
		"VAULT_ADDR=" + b.Addr, "VAULT_TOKEN=" + b.Token,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"You are logged in.", "15m0s", "userpass-ann", "ci-builder", "github-123456"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing said %q:\n%s", want, out)
		}
	}
}

// lay lays down the files that the page's examples read.
func lay(t *testing.T, dir string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	job := signed(t, key, map[string]any{
		"iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/app:environment:production", "aud": "bailiff.example.org",
		"repository_id": "123456", "repository": "acme/app", "environment": "production", "run_id": "9", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	for name, text := range map[string]string{
		"issuer.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"issuer-ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		"job.jwt":       job, "reviewer.jwt": job, "bind.password": "x", "ann.password": "correct horse battery staple",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func signed(t *testing.T, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
