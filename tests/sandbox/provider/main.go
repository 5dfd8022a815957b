// The sandbox's offline Terraform providers: one program that is hashicorp/aws, tls, time, null or cloudinit by the name it is
// started under (terraform-provider-NAME_vVERSION).
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/resources"
	"deployctl/tests/sandbox/provider/small"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	if err := serve(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, "offline provider:", err)
		os.Exit(1)
	}
}

func serve(program string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(program, "terraform-provider-"), "_")
	c, err := catalog.Load(name)
	if err != nil {
		return err
	}
	set := small.Set(name)
	if name == "aws" {
		set = resources.Set()
	}
	server, err := engine.NewServer(c, set)
	if err != nil {
		return err
	}
	return tf6server.Serve("registry.terraform.io/hashicorp/"+name, func() tfprotov6.ProviderServer { return server })
}
