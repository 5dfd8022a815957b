package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/resources"
	"deployctl/tests/sandbox/provider/value"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// planned is what a plan says, in plain values.
type planned struct {
	state   map[string]any
	replace []string
}

func awsServer(t *testing.T) *engine.Server {
	t.Helper()
	c, err := catalog.Load("aws")
	if err != nil {
		t.Fatal(err)
	}
	s, err := engine.NewServer(c, resources.Set())
	if err != nil {
		t.Fatal(err)
	}
	s.Pretend(&engine.Meta{Account: "111122223333", Partition: "aws", Region: "us-east-1", DefaultTags: map[string]string{"Environment": "test"}})
	return s
}

// full fills the attributes and blocks that a configuration leaves out with null and empty, as Terraform does.
func full(b *catalog.Block, m map[string]any) map[string]any {
	out := map[string]any{}
	for name := range b.Attributes {
		out[name] = m[name]
	}
	for name, n := range b.Blocks {
		items := []any{}
		for _, item := range value.List(m[name]) {
			items = append(items, full(n.Block, value.Map(item)))
		}
		if n.NestingMode != "single" {
			out[name] = items
		} else if m[name] != nil {
			out[name] = full(n.Block, value.Map(m[name]))
		}
	}
	return out
}

// propose is Terraform's own proposal, for what these tests need of it: a computed attribute that is not written keeps its value, also
// in blocks, which are taken to be in the same order.
func propose(b *catalog.Block, prior, config map[string]any) map[string]any {
	out := value.Map(value.Copy(config))
	for name, a := range b.Attributes {
		if a.Computed && config[name] == nil && prior != nil {
			out[name] = prior[name]
		}
	}
	for name, n := range b.Blocks {
		items, old := value.List(out[name]), value.List(prior[name])
		for i := range min(len(items), len(old)) {
			items[i] = propose(n.Block, value.Map(old[i]), value.Map(items[i]))
		}
	}
	return out
}

func plan(t *testing.T, s *engine.Server, kind string, prior, config map[string]any) planned {
	t.Helper()
	b := s.Block(kind)
	config = full(b, config)
	pack := func(m map[string]any) *tfprotov6.DynamicValue {
		d, err := value.Pack(m, b.Type())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if prior != nil {
		prior = full(b, prior)
	}
	q := &tfprotov6.PlanResourceChangeRequest{TypeName: kind, PriorState: pack(prior), Config: pack(config), ProposedNewState: pack(propose(b, prior, config))}
	resp, err := s.PlanResourceChange(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range resp.Diagnostics {
		t.Fatal(d.Summary, d.Detail)
	}
	state, err := value.Unpack(resp.PlannedState, b.Type())
	if err != nil {
		t.Fatal(err)
	}
	var replace []string
	for _, p := range resp.RequiresReplace {
		replace = append(replace, strings.TrimSuffix(strings.TrimPrefix(p.String(), `AttributeName("`), `")`))
	}
	return planned{state, replace}
}

func TestCreationLeavesOnlyComputedAttributesOpen(t *testing.T) {
	s := awsServer(t)
	p := plan(t, s, "aws_vpc", nil, map[string]any{"cidr_block": "10.0.0.0/16", "tags": map[string]any{"Name": "a"}})
	for _, name := range []string{"id", "arn", "main_route_table_id", "enable_dns_hostnames"} {
		if !value.IsUnknown(p.state[name]) {
			t.Errorf("%s is %v, not unknown", name, p.state[name])
		}
	}
	for name, want := range map[string]any{"cidr_block": "10.0.0.0/16", "enable_dns_support": true, "instance_tenancy": "default", "ipv4_ipam_pool_id": nil, "region": "us-east-1"} {
		if p.state[name] != want {
			t.Errorf("%s is %v, not %v", name, p.state[name], want)
		}
	}
	if all := value.Map(p.state["tags_all"]); all["Name"] != "a" || all["Environment"] != "test" {
		t.Errorf("tags_all is %v", all)
	}
}

func TestTakenAwayArgumentFallsBackToItsDefault(t *testing.T) {
	s := awsServer(t)
	for _, r := range []struct {
		kind, attribute string
		value, after    any
	}{
		{"aws_db_instance", "apply_immediately", true, false},
		{"aws_db_instance", "copy_tags_to_snapshot", true, false},
		{"aws_db_instance", "performance_insights_enabled", true, false},
		{"aws_sqs_queue", "visibility_timeout_seconds", 90.0, 30.0},
		{"aws_cloudwatch_log_group", "retention_in_days", 30.0, 0.0},
		{"aws_subnet", "map_public_ip_on_launch", true, false},
		{"aws_kms_key", "enable_key_rotation", true, false},
		{"aws_s3_bucket_public_access_block", "block_public_acls", true, false},
	} {
		prior := map[string]any{"id": "x", "region": "us-east-1", r.attribute: r.value}
		if got := plan(t, s, r.kind, prior, nil).state[r.attribute]; got != r.after {
			t.Errorf("%s.%s taken away plans %v, not %v", r.kind, r.attribute, got, r.after)
		}
	}
}

func TestComputedArgumentKeepsItsValue(t *testing.T) {
	s := awsServer(t)
	for _, c := range []struct {
		kind, attribute string
		value           any
	}{
		{"aws_db_instance", "backup_window", "03:00-04:00"}, {"aws_db_instance", "port", 5432.0}, {"aws_db_instance", "vpc_security_group_ids", []any{"sg-1"}},
		{"aws_eks_cluster", "version", "1.34"}, {"aws_kms_key", "policy", "{}"}, {"aws_sqs_queue", "policy", "{}"}, {"aws_vpc", "enable_dns_hostnames", true},
	} {
		prior := map[string]any{"id": "x", "region": "us-east-1", c.attribute: c.value}
		if got := plan(t, s, c.kind, prior, nil).state[c.attribute]; value.Canonical(got) != value.Canonical(c.value) {
			t.Errorf("%s.%s left out plans %v, not %v", c.kind, c.attribute, got, c.value)
		}
	}
}

func TestChangeOfIdentityReplaces(t *testing.T) {
	s := awsServer(t)
	for _, c := range []struct {
		kind, name string
		old, new   any
	}{
		{"aws_vpc", "cidr_block", "10.0.0.0/16", "10.1.0.0/16"}, {"aws_db_instance", "username", "a", "b"}, {"aws_db_instance", "storage_encrypted", false, true},
		{"aws_subnet", "availability_zone", "us-east-1a", "us-east-1b"}, {"aws_sqs_queue", "name", "a", "b"}, {"aws_s3_bucket", "bucket", "a", "b"},
		{"aws_eks_node_group", "instance_types", []any{"m5.large"}, []any{"m6.large"}}, {"aws_iam_role", "name", "a", "b"}, {"aws_vpc", "region", "us-east-1", "eu-west-1"},
		{"aws_security_group", "description", "a", "b"}, {"aws_cloudwatch_log_group", "name", "a", "b"},
	} {
		prior := map[string]any{"id": "x", "region": "us-east-1", c.name: c.old}
		config := map[string]any{c.name: c.new}
		if c.name != "region" {
			config["region"] = "us-east-1"
		}
		if got := plan(t, s, c.kind, prior, config).replace; !slices.Contains(got, c.name) {
			t.Errorf("%s: another %s replaces %v", c.kind, c.name, got)
		}
	}
	keep := plan(t, s, "aws_db_instance", map[string]any{"id": "x", "region": "us-east-1", "instance_class": "db.t4g.micro"}, map[string]any{"instance_class": "db.t4g.small"})
	if len(keep.replace) > 0 {
		t.Errorf("another class of instance replaces %v", keep.replace)
	}
}

func TestDocumentsAndSetsAreComparedByMeaning(t *testing.T) {
	s := awsServer(t)
	prior := map[string]any{"id": "a:b", "name": "b", "role": "a", "policy": `{"Statement":[{"Action":["x"],"Effect":"Allow"}]}`}
	p := plan(t, s, "aws_iam_role_policy", prior, map[string]any{"name": "b", "role": "a", "policy": `{ "Statement": { "Effect": "Allow", "Action": "x" } }`})
	if p.state["policy"] != prior["policy"] {
		t.Errorf("a document written otherwise plans %v", p.state["policy"])
	}
	p = plan(t, s, "aws_iam_role_policy", prior, map[string]any{"name": "b", "role": "a", "policy": `{"Statement":[{"Action":["y"],"Effect":"Allow"}]}`})
	if p.state["policy"] == prior["policy"] {
		t.Error("another document plans nothing")
	}
	group := map[string]any{"id": "g", "name": "g", "region": "us-east-1", "subnet_ids": []any{"b", "a"}}
	p = plan(t, s, "aws_db_subnet_group", group, map[string]any{"name": "g", "subnet_ids": []any{"a", "b"}})
	if value.IsUnknown(p.state["vpc_id"]) && len(p.replace) > 0 {
		t.Errorf("a set in another order plans a change: %v", p.state)
	}
}

func TestEngineVersionByItsMajorNumber(t *testing.T) {
	s := awsServer(t)
	same := s.Resource("aws_db_instance").Same["engine_version"]
	if !same("17.4", "17") || same("17.4", "1") || same("16.4", "17") {
		t.Error("17 stands for 17.4 and for nothing else")
	}
}

func TestWriteOnlyValuesAreInNoPlan(t *testing.T) {
	s := awsServer(t)
	p := plan(t, s, "aws_secretsmanager_secret_version", nil, map[string]any{"secret_id": "x", "secret_string_wo": "hidden", "secret_string_wo_version": 1.0})
	if p.state["secret_string_wo"] != nil || strings.Contains(value.Canonical(p.state), "hidden") {
		t.Errorf("the plan holds the secret: %v", p.state)
	}
}

func TestUnknownTagsLeaveTagsAllOpen(t *testing.T) {
	s := awsServer(t)
	p := plan(t, s, "aws_vpc", nil, map[string]any{"tags": map[string]any{"Name": value.Unknown}})
	if !value.IsUnknown(p.state["tags_all"]) {
		t.Errorf("tags_all is %v", p.state["tags_all"])
	}
}

func TestTypesWithoutATableArePlainlyRefused(t *testing.T) {
	s := awsServer(t)
	resp, err := s.PlanResourceChange(context.Background(), &tfprotov6.PlanResourceChangeRequest{TypeName: "aws_lambda_function"})
	if err != nil || len(resp.Diagnostics) != 1 || !strings.Contains(resp.Diagnostics[0].Detail, "aws_lambda_function") {
		t.Errorf("%v %v", resp.Diagnostics, err)
	}
}
