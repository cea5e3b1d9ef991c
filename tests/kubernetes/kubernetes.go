// Package kubernetes pins the version of Kubernetes whose programs and tests run here.
package kubernetes

import (
	_ "k8s.io/apiserver/pkg/storage"
	_ "k8s.io/kubernetes/test/integration/etcd"
)
