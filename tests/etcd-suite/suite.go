//go:build e2e

// Package suite names the tests that run.sh builds, so that go.mod pins what they need.
package suite

import _ "go.etcd.io/etcd/tests/v3/common"
