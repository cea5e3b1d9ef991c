package plane

import (
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig writes how to reach an API server as whoever a certificate names, and returns the same
// for clients in Go, which are not slowed down.
func (p *Plane) kubeconfig(name, url string, shown Pair) (string, *rest.Config, error) {
	file := filepath.Join(p.config.Home, name+".kubeconfig")
	written := api.Config{
		Clusters: map[string]*api.Cluster{
			name: {Server: url, CertificateAuthority: p.authority.Bundle()},
		},
		AuthInfos: map[string]*api.AuthInfo{
			name: {ClientCertificate: shown.Certificate, ClientKey: shown.Key},
		},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
	config := &rest.Config{
		Host: url, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: p.authority.Bundle(), CertFile: shown.Certificate, KeyFile: shown.Key,
		},
	}
	return file, config, clientcmd.WriteToFile(written, file)
}
