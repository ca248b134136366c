package driver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weirstream/weir/internal/clock"
)

// certificate makes a certificate for 127.0.0.1 and writes it as its own CA.
func certificate(t *testing.T, hosts ...net.IP) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Wall().Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: hosts,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// Kafka's own security properties reach brokers that ask for them, and a wrong
// certificate is refused.
func TestSecurity(t *testing.T) {
	cert, ca := certificate(t, net.ParseIP("127.0.0.1"))
	other, otherCA := certificate(t) // names no host
	_, strange := certificate(t, net.ParseIP("127.0.0.1"))
	user := func(mechanism string) []string {
		return []string{"security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", mechanism, "sasl.username", "me", "sasl.password", "secret"}
	}
	for _, tt := range []struct {
		name    string
		opts    []kfake.Opt
		options []string
		want    string // "": it works
	}{
		{"plain", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "me", "secret")}, user("PLAIN"), ""},
		{"scram", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "me", "secret")}, user("SCRAM-SHA-512"), ""},
		{"wrong password", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "me", "other")}, user("PLAIN"), "bootstrap.servers, that the broker runs, and what it asks for besides SASL_PLAINTEXT"},
		{"tls", []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})}, []string{"security.protocol", "SSL", "ssl.ca.location", ca}, ""},
		{"tls of a stranger", []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})}, []string{"security.protocol", "SSL", "ssl.ca.location", strange}, "certificate"},
		{"tls of another host", []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{other}})}, []string{"security.protocol", "SSL", "ssl.ca.location", otherCA}, "certificate"},
		{"tls, host not looked at", []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{other}})}, []string{"security.protocol", "SSL", "ssl.ca.location", otherCA, "ssl.endpoint.identification.algorithm", "none"}, ""},
		{"tls of a stranger, host not looked at", []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{other}})}, []string{"security.protocol", "SSL", "ssl.ca.location", strange, "ssl.endpoint.identification.algorithm", "none"}, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, map[string]int32{"in": 1}, tt.opts...)
			w := newWorld()
			patience := "1m"
			if tt.want != "" {
				patience = "2s"
			}
			r, err := Source{}.Open(t.Context(), w.env("src", 0, 1, source(append(tt.options, "end", "latest", "startup_timeout", patience)...), c.ListenAddrs()), nil, nil)
			if err == nil {
				r.Close()
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		options []string
		want    string
	}{
		{[]string{"security.protocol", "SASL_SSL"}, "kafka: security.protocol is SASL_SSL but sasl.username is not set"},
		{[]string{"security.protocol", "SSL", "ssl.ca.location", "/absent.pem"}, "kafka: ssl.ca.location: open /absent.pem: no such file or directory"},
	} {
		_, err := Source{}.Open(t.Context(), newWorld().env("src", 0, 1, source(tt.options...), []string{"127.0.0.1:1"}), nil, nil)
		if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
