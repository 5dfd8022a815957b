// Package schema embeds the providers' schemas, so that the binary needs no file beside it.
package schema

import "embed"

// Files holds NAME-VERSION.json or NAME-VERSION.json.gz for each provider.
//
//go:embed *.json *.json.gz
var Files embed.FS
