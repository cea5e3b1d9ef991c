package plane

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
	"time"
)

// How long certificates are good for: longer than anything here runs.
const validity = 7 * 24 * time.Hour

// Authority signs the certificates of a cluster, of its control plane and of their clients.
type Authority struct {
	home        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Pair is the files of a certificate and of its key.
type Pair struct{ Certificate, Key string }

// NewAuthority keeps its files in a directory, which it makes.
func NewAuthority(home string) (*Authority, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	a := &Authority{home: home}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	_, err := a.sign("ca", template)
	return a, err
}

// Bundle is the file of the authority's own certificate.
func (a *Authority) Bundle() string { return a.pair("ca").Certificate }

func (a *Authority) pair(name string) Pair {
	return Pair{filepath.Join(a.home, name+".crt"), filepath.Join(a.home, name+".key")}
}

// Issue makes a certificate for whoever has this name, as a server on loopback and as a client of
// others. The groups are those that the name has in Kubernetes.
func (a *Authority) Issue(name string, groups ...string) (Pair, error) {
	return a.sign(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: groups},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// sign: what is signed before there is an authority becomes it.
func (a *Authority) sign(name string, template *x509.Certificate) (Pair, error) {
	files := a.pair(name)
	key, err := writeKey(files.Key)
	if err != nil {
		return files, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(validity)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return files, err
	}
	if a.certificate == nil {
		a.key = key
		if a.certificate, err = x509.ParseCertificate(signed); err != nil {
			return files, err
		}
	}
	return files, writePEM(files.Certificate, "CERTIFICATE", signed)
}

func writeKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(file, "EC PRIVATE KEY", encoded)
}

func writePEM(file, kind string, content []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	return os.WriteFile(file, text, 0o600)
}

// MemberFlags have a member show a certificate to clients and other members, and want theirs.
func (a *Authority) MemberFlags(shown Pair) []string {
	return []string{
		"--cert-file=" + shown.Certificate, "--key-file=" + shown.Key,
		"--trusted-ca-file=" + a.Bundle(), "--client-cert-auth=true",
		"--peer-cert-file=" + shown.Certificate, "--peer-key-file=" + shown.Key,
		"--peer-trusted-ca-file=" + a.Bundle(), "--peer-client-cert-auth=true",
	}
}

// ClientTLS trusts the authority and shows a certificate.
func (a *Authority) ClientTLS(shown Pair) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(shown.Certificate, shown.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}, nil
}
