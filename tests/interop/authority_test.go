package interop

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
	"testing"
	"time"
)

// authority makes certificates for members and for their clients.
type authority struct {
	home        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{home: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key = a.sign(t, "ca", template)
	return a
}

// sign writes NAME.crt and NAME.key. What is signed before there is an authority becomes it.
func (a authority) sign(
	t *testing.T, name string, template *x509.Certificate,
) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	signed := must(x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer))
	a.write(t, name+".crt", "CERTIFICATE", signed)
	a.write(t, name+".key", "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key)))
	return must(x509.ParseCertificate(signed)), key
}

func (a authority) write(t *testing.T, name, kind string, content []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	check(t, os.WriteFile(a.file(name), text, 0o600))
}

func (a authority) file(name string) string { return filepath.Join(a.home, name) }

// memberFlags have a member show a certificate to clients and other members, and want theirs.
func (a authority) memberFlags(t *testing.T) []string {
	t.Helper()
	a.sign(t, "member", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "member"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	crt, key, ca := a.file("member.crt"), a.file("member.key"), a.file("ca.crt")
	return []string{
		"--cert-file", crt, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
		"--peer-cert-file", crt, "--peer-key-file", key, "--peer-trusted-ca-file", ca,
		"--peer-client-cert-auth",
	}
}

// clientTLS shows members a certificate with that common name, which may be empty.
func (a authority) clientTLS(t *testing.T, name string) *tls.Config {
	t.Helper()
	a.sign(t, "client-"+name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	crt, key := a.file("client-"+name+".crt"), a.file("client-"+name+".key")
	config := a.trusting()
	config.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(crt, key))}
	return config
}

// trusting knows the members, and shows them no certificate.
func (a authority) trusting() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots}
}
