//go:build tools

// Package tools makes the server's program a dependency, so that go.sum pins it with everything it needs.
package tools

import _ "github.com/FerretDB/FerretDB/cmd/ferretdb"
