package kubeadm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

// pki is what kubeadm keeps in /etc/kubernetes/pki of one node. The authority is the same on all.
type pki struct {
	home        string
	newKey      func() (crypto.Signer, error)
	certificate *x509.Certificate
	key         crypto.Signer
}

func newRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func newECDSA() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newPKI(t *testing.T, newKey func() (crypto.Signer, error)) pki {
	t.Helper()
	p := pki{home: t.TempDir(), newKey: newKey}
	p.certificate, p.key = p.sign(t, "etcd/ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "etcd-ca"}, DNSNames: []string{"etcd-ca"}, IsCA: true,
	})
	return p
}

// ofNode is the directory of a node that joins: the authority is copied, the rest is made there.
func (p pki) ofNode(t *testing.T, name, address string) pki {
	t.Helper()
	authority := p.home
	p.home = t.TempDir()
	for _, file := range []string{"etcd/ca.crt", "etcd/ca.key"} {
		content, err := os.ReadFile(filepath.Join(authority, file))
		check(t, err)
		p.write(t, file, content)
	}
	names := []string{name, "localhost"}
	addresses := []net.IP{net.ParseIP(address), net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, file := range []string{"etcd/server", "etcd/peer"} {
		p.sign(t, file, &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: names, IPAddresses: addresses,
			ExtKeyUsage: both,
		})
	}
	for file, client := range map[string]string{
		"etcd/healthcheck-client": "kube-etcd-healthcheck-client",
		"apiserver-etcd-client":   "kube-apiserver-etcd-client",
	} {
		p.sign(t, file, &x509.Certificate{
			Subject: pkix.Name{CommonName: client}, ExtKeyUsage: both[1:],
		})
	}
	return p
}

func (p pki) file(name string) string { return filepath.Join(p.home, name) }

// client is how a client with one of the certificates of this node comes.
func (p pki) client(t *testing.T, name string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.certificate)
	config := &tls.Config{RootCAs: roots}
	if name != "" {
		shown, err := tls.LoadX509KeyPair(p.file(name+".crt"), p.file(name+".key"))
		check(t, err)
		config.Certificates = []tls.Certificate{shown}
	}
	return config
}

// sign writes NAME.crt and NAME.key. What is signed before there is an authority becomes it.
func (p pki) sign(
	t *testing.T, name string, template *x509.Certificate,
) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := p.newKey()
	check(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	check(t, err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature
	parent, signer := p.certificate, p.key
	if parent == nil {
		parent, signer = template, key
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	check(t, err)
	p.write(t, name+".crt", encoded("CERTIFICATE", signed))
	p.write(t, name+".key", encodedKey(t, key))
	certificate, err := x509.ParseCertificate(signed)
	check(t, err)
	return certificate, key
}

func (p pki) write(t *testing.T, name string, content []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(p.file(name)), 0o700))
	check(t, os.WriteFile(p.file(name), content, 0o600))
}

// encodedKey has the form that each kind of key has had longest, as kubeadm writes it.
func encodedKey(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return encoded("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	case *ecdsa.PrivateKey:
		content, err := x509.MarshalECPrivateKey(key)
		check(t, err)
		return encoded("EC PRIVATE KEY", content)
	}
	t.Fatalf("a key of an unknown kind: %T", key)
	return nil
}

func encoded(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}
