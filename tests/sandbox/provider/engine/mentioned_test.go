package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/resources"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

func served(t *testing.T) map[string]*tfprotov6.Schema {
	t.Helper()
	c, err := catalog.Load("aws")
	if err != nil {
		t.Fatal(err)
	}
	server, err := engine.NewServer(c, resources.Set())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.ResourceSchemas
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is used can be validated, in modules too, and what can be made can be destroyed when nobody mentions it any more.
func TestSchemasOfWhatIsMentionedAreServed(t *testing.T) {
	t.Chdir(t.TempDir())
	if all := len(served(t)); all < 1000 {
		t.Fatalf("without a configuration only %d types are served", all)
	}
	write(t, "main.tf", `resource "aws_sns_topic" "this" {}`)
	write(t, "elsewhere/main.tf", `resource "aws_glue_job" "this" {}`)
	write(t, "nobody/main.tf", `resource "aws_lightsail_disk" "this" {}`)
	write(t, ".terraform/modules/modules.json", `{"Modules":[{"Key":"","Dir":"."},{"Key":"m","Dir":"elsewhere"}]}`)
	few := served(t)
	for _, kind := range []string{"aws_sns_topic", "aws_glue_job", "aws_vpc"} {
		if few[kind] == nil {
			t.Errorf("%s is not served", kind)
		}
	}
	if few["aws_lightsail_disk"] != nil {
		t.Error("what nobody mentions is served")
	}
}
