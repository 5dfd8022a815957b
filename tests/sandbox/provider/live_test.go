package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// workspace is a copy of the fixture with a mirror of the providers as they are built now.
type workspace struct {
	t      *testing.T
	folder string
	env    []string
}

// needed is what the live test cannot do without.
const needed = "DEPLOYCTL_TEST_ENDPOINT"

func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	endpoint := os.Getenv(needed)
	if endpoint == "" {
		if os.Getenv("DEPLOYCTL_TEST_COMPLETE") != "" {
			t.Fatalf("%s is not set; tests/test.sh provider sets it", needed)
		}
		t.Skipf("skipped: %s is not set; it names an AWS endpoint of a sandbox (or of ministack on 127.0.0.1)", needed)
	}
	w := &workspace{t: t, folder: t.TempDir()}
	mirror := filepath.Join(w.folder, "mirror")
	if out, err := exec.Command("./lay-out.sh", mirror).CombinedOutput(); err != nil {
		t.Fatalf("building the providers: %v\n%s", err, out)
	}
	rc := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\ndisable_checkpoint = true\n", mirror)
	w.write("terraformrc", []byte(rc))
	files, err := filepath.Glob("fixture/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	left := strings.Fields(os.Getenv("DEPLOYCTL_TEST_WITHOUT")) // file names that an endpoint without some service leaves out
	for _, file := range files {
		if slices.Contains(left, filepath.Base(file)) {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		w.write(filepath.Base(file), raw)
	}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(w.folder, "terraformrc"), "AWS_ENDPOINT_URL="+endpoint, "TF_IN_AUTOMATION=1",
		"AWS_REGION=us-east-1")
	for name, fallback := range map[string]string{"DEPLOYCTL_SANDBOX": "test", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"} {
		if os.Getenv(name) == "" {
			w.env = append(w.env, name+"="+fallback)
		}
	}
	w.terraform("init", "-input=false")
	return w
}

func (w *workspace) write(name string, raw []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name), raw, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) run(args ...string) (string, error) {
	c := exec.Command("terraform", append(args, "-no-color")...)
	c.Dir, c.Env = w.folder, w.env
	out, err := c.CombinedOutput()
	return string(out), err
}

func (w *workspace) terraform(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, tail(out))
	}
	return out
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

type change struct {
	Address, Type, Mode string
	Change              struct {
		Actions       []string
		Before, After map[string]any
	}
}

// changes plans, and gives what the plan would do.
func (w *workspace) changes(args ...string) []change {
	w.t.Helper()
	w.terraform(append([]string{"plan", "-input=false", "-out=plan"}, args...)...)
	c := exec.Command("terraform", "show", "-json", "plan")
	c.Dir, c.Env = w.folder, w.env
	raw, err := c.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	var p struct {
		Changes []change `json:"resource_changes"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(p.Changes, func(c change) bool { return slices.Equal(c.Change.Actions, []string{"no-op"}) })
}

func (w *workspace) unchanged(when string, args ...string) {
	w.t.Helper()
	for _, c := range w.changes(args...) {
		w.t.Errorf("%s: %s would be %v: %s", when, c.Address, c.Change.Actions, difference(c))
	}
}

func difference(c change) string {
	var out []string
	for name, after := range c.Change.After {
		if fmt.Sprint(after) != fmt.Sprint(c.Change.Before[name]) {
			out = append(out, fmt.Sprintf("%s: %v -> %v", name, c.Change.Before[name], after))
		}
	}
	return strings.Join(out, "; ")
}

type stateFile struct {
	Values struct {
		Root struct {
			Resources []object
		} `json:"root_module"`
	}
}

type object struct {
	Address, Type, Mode string
	Values              map[string]any
}

func (w *workspace) objects() []object {
	w.t.Helper()
	c := exec.Command("terraform", "show", "-json")
	c.Dir, c.Env = w.folder, w.env
	raw, err := c.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	var s stateFile
	if err := json.Unmarshal(raw, &s); err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(s.Values.Root.Resources, func(o object) bool { return o.Mode != "managed" })
}

// importID is what a person types to import an object.
func importID(o object) string {
	s := func(name string) string { return fmt.Sprint(o.Values[name]) }
	switch o.Type {
	case "aws_route":
		return s("route_table_id") + "_" + s("destination_cidr_block")
	case "aws_route_table_association":
		return s("subnet_id") + "/" + s("route_table_id")
	case "aws_security_group_rule":
		return strings.Join([]string{s("security_group_id"), s("type"), s("protocol"), s("from_port"), s("to_port"), "self"}, "_")
	case "aws_db_instance":
		return s("identifier")
	case "aws_eks_pod_identity_association":
		return s("cluster_name") + "," + s("id")
	case "null_resource", "time_sleep", "aws_secretsmanager_secret_version", "aws_ssm_parameter":
		return "" // The last two would bring the secret into the state, as the real provider does.
	}
	return s("id")
}

// unreadable are arguments that no API tells, so an import cannot know them.
var unreadable = []string{"recovery_window_in_days", "deletion_window_in_days", "skip_final_snapshot", "apply_immediately", "manage_master_user_password",
	"update_default_version", "resolve_conflicts_on_create", "bootstrap_self_managed_addons", "timeouts", "force_destroy", "log_format", "iam_role_arn",
	"access_config", "tags_all", "revoke_rules_on_delete", "max_aggregation_interval", "bootstrap_cluster_creator_admin_permissions"}

// knownToReplace are types of which the emulator forgets arguments that cannot change in place: a flow log's format and role, a NAT
// gateway's addresses.
var knownToReplace = []string{"aws_flow_log", "aws_nat_gateway"}

func TestEveryTypeLives(t *testing.T) {
	w := newWorkspace(t)
	t.Cleanup(func() {
		if out, err := w.run("destroy", "-auto-approve", "-input=false", "-var", "change=true"); err != nil {
			t.Errorf("destroy: %v\n%s", err, tail(out))
		}
	})
	w.terraform("apply", "-auto-approve", "-input=false")
	w.unchanged("after creating")
	raw, err := os.ReadFile(filepath.Join(w.folder, "terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "must-not-be-in-state") {
		t.Error("a write-only secret is in the state")
	}
	w.terraform("apply", "-auto-approve", "-input=false", "-var", "change=true")
	w.unchanged("after changing", "-var", "change=true")
	imported := w.importAll()
	for _, c := range w.changes("-var", "change=true") {
		if slices.Contains(knownToReplace, c.Type) || !slices.Contains(imported, c.Address) {
			continue
		}
		if !slices.Equal(c.Change.Actions, []string{"update"}) {
			t.Errorf("after importing %s it would be %v: %s", c.Address, c.Change.Actions, difference(c))
			continue
		}
		for name, after := range c.Change.After {
			if fmt.Sprint(after) != fmt.Sprint(c.Change.Before[name]) && !slices.Contains(unreadable, name) {
				t.Errorf("after importing %s: %s: %v -> %v", c.Address, name, c.Change.Before[name], after)
			}
		}
	}
	t.Logf("%d objects made, changed and imported", len(imported))
}

// importAll forgets every object and takes it back by its id, with import blocks.
func (w *workspace) importAll() []string {
	w.t.Helper()
	var blocks strings.Builder
	var addresses []string
	for _, o := range w.objects() {
		id := importID(o)
		if id == "" {
			continue
		}
		addresses = append(addresses, o.Address)
		fmt.Fprintf(&blocks, "import {\n  to = %s\n  id = %q\n}\n", o.Address, id)
	}
	w.terraform(append([]string{"state", "rm"}, addresses...)...)
	w.write("import.tf", []byte(blocks.String()))
	// Importing and what an import cannot know are both done by an apply; what it would replace is the finding.
	for _, c := range w.changes("-var", "change=true") {
		if slices.Contains(c.Change.Actions, "create") && slices.Contains(addresses, c.Address) && !slices.Contains(knownToReplace, c.Type) {
			w.t.Errorf("importing %s would make it again: %s", c.Address, difference(c))
		}
	}
	if out, err := w.run("apply", "-auto-approve", "-input=false", "plan"); err != nil {
		w.t.Errorf("importing: %v\n%s", err, tail(out))
	}
	return addresses
}
