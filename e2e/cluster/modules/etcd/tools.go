//go:build tools

// Package tools names what the cluster is built from, so that go.mod pins it.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
