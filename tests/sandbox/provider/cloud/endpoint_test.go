package cloud

import (
	"net"
	"strings"
	"testing"
)

func TestOnlySandboxEndpointsAreAccepted(t *testing.T) {
	for _, c := range []struct{ mode, endpoint, other, refused string }{
		{"demo", "http://198.18.3.2:4566", "", ""},
		{"demo", "http://198.19.255.255", "", ""},
		{"test", "http://127.0.0.1:4566", "", ""},
		{"demo", "http://127.0.0.1:4566", "", "127.0.0.1"},
		{"", "http://198.18.3.2:4566", "", "DEPLOYCTL_SANDBOX"},
		{"demo", "", "", "AWS_ENDPOINT_URL"},
		{"demo", "https://ec2.us-east-1.amazonaws.com", "", "not in a sandbox"},
		{"demo", "http://198.20.0.1", "", "198.20.0.1"},
		{"demo", "http://198.18.3.2:4566", "AWS_ENDPOINT_URL_S3=https://s3.amazonaws.com", "s3.amazonaws.com"},
	} {
		env := map[string]string{"DEPLOYCTL_SANDBOX": c.mode, "AWS_ENDPOINT_URL": c.endpoint}
		_, err := FindEndpoints(func(n string) string { return env[n] }, []string{c.other}, nil)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	env := map[string]string{"DEPLOYCTL_SANDBOX": "demo", "AWS_ENDPOINT_URL": "http://198.18.0.2"}
	if _, err := FindEndpoints(func(n string) string { return env[n] }, nil, map[string]string{"s3": "http://10.0.0.1"}); err == nil {
		t.Error("an endpoint of the provider block outside the sandbox is accepted")
	}
}

func TestNothingOutsideIsDialled(t *testing.T) {
	env := map[string]string{"DEPLOYCTL_SANDBOX": "test", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
	e, err := FindEndpoints(func(n string) string { return env[n] }, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	e.OnlyInside(&d)
	for address, refused := range map[string]bool{"127.0.0.1:80": false, "198.18.3.2:4566": false, "52.94.0.1:443": true, "[2600::1]:443": true, "169.254.169.254:80": true} {
		if err := d.Control("tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}
