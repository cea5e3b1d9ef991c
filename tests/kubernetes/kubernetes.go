// Package kubernetes pins the version of Kubernetes whose tests run here.
package kubernetes

import _ "k8s.io/apiserver/pkg/storage"
