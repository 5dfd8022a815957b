package main_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deployctl/tests/sandbox/provider/cloud"

	"github.com/aws/aws-sdk-go-v2/config"
)

const drifting = `
resource "aws_sqs_queue" "x" {
  name                       = "fixture-drift"
  visibility_timeout_seconds = 60
}
resource "aws_cloudwatch_log_group" "x" {
  name = "/fixture/drift"
}
resource "time_sleep" "x" {
  create_duration = "1s"
}
`

// outside is a client beside terraform's, for what others do to its objects.
func outside(t *testing.T, endpoint string) cloud.API {
	t.Helper()
	for name, fallback := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "DEPLOYCTL_SANDBOX": "test"} {
		if os.Getenv(name) == "" {
			t.Setenv(name, fallback)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	ends, err := cloud.Environment(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithRegion("us-east-1"))
	if err != nil {
		t.Fatal(err)
	}
	client := &cloud.Client{Credentials: cfg.Credentials, Endpoints: ends, HTTP: http.DefaultClient}
	return cloud.API{Client: client, Ctx: context.Background(), Region: "us-east-1"}
}

func TestDriftAndDisappearanceAreSeen(t *testing.T) {
	w := newWorkspace(t)
	files, err := filepath.Glob(filepath.Join(w.folder, "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if filepath.Base(f) != "provider.tf" {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	provider, err := os.ReadFile("fixture/provider.tf")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(provider), "locals {")
	w.write("provider.tf", []byte(head+drifting))
	t.Cleanup(func() { w.terraform("destroy", "-auto-approve", "-input=false") })
	w.terraform("apply", "-auto-approve", "-input=false")
	w.unchanged("after creating")

	api := outside(t, os.Getenv(needed))
	var url string
	for _, o := range w.objects() {
		if o.Type == "aws_sqs_queue" {
			url = fmt.Sprint(o.Values["url"])
		}
	}
	if _, err := api.JSON("sqs", "SetQueueAttributes", map[string]any{"QueueUrl": url, "Attributes": map[string]any{"VisibilityTimeout": "5"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.JSON("logs", "DeleteLogGroup", map[string]any{"logGroupName": "/fixture/drift"}); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, c := range w.changes() {
		found[c.Address] = strings.Join(c.Change.Actions, "+")
	}
	if len(found) != 2 || found["aws_sqs_queue.x"] != "update" || found["aws_cloudwatch_log_group.x"] != "create" {
		t.Errorf("a changed queue and a deleted log group plan %v", found)
	}
}
