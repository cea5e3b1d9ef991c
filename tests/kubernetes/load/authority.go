package main

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

// authority makes certificates for members and for their clients, in files of its directory.
type authority struct {
	home        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(home string) (*authority, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	a := &authority{home: home}
	var err error
	a.certificate, a.key, err = a.sign("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "etcd-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	return a, err
}

// sign writes NAME.crt and NAME.key. What is signed before there is an authority becomes it.
func (a *authority) sign(
	name string, template *x509.Certificate,
) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	if err := a.write(name+".crt", "CERTIFICATE", signed); err != nil {
		return nil, nil, err
	}
	if err := a.write(name+".key", "EC PRIVATE KEY", secret); err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(signed)
	return certificate, key, err
}

func (a *authority) write(name, kind string, content []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	return os.WriteFile(a.file(name), text, 0o600)
}

func (a *authority) file(name string) string { return filepath.Join(a.home, name) }

// memberFlags have a member show a certificate to clients and other members, and want theirs.
func (a *authority) memberFlags() ([]string, error) {
	_, _, err := a.sign("member", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "member"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	crt, key, ca := a.file("member.crt"), a.file("member.key"), a.file("ca.crt")
	return []string{
		"--cert-file=" + crt, "--key-file=" + key, "--trusted-ca-file=" + ca, "--client-cert-auth=true",
		"--peer-cert-file=" + crt, "--peer-key-file=" + key, "--peer-trusted-ca-file=" + ca,
		"--peer-client-cert-auth=true",
	}, err
}

func (a *authority) clientTLS() (*tls.Config, error) {
	_, _, err := a.sign("client", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver-etcd-client"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	shown, err := tls.LoadX509KeyPair(a.file("client.crt"), a.file("client.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{shown}}, nil
}
