package cloud

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// Endpoints says where each service is reached.
type Endpoints struct {
	base    *url.URL
	service map[string]*url.URL
	mode    string
}

// OnlyInside makes a dialer refuse every address outside a sandbox, whoever asked for it: the last line of defence.
func (e Endpoints) OnlyInside(d *net.Dialer) {
	d.Control = func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(to.Addr().Unmap(), e.mode) {
			return fmt.Errorf("the offline provider does not connect to %s: it is not in a sandbox", address)
		}
		return nil
	}
}

func allowed(ip netip.Addr, mode string) bool {
	return sandboxNet.Contains(ip) || mode == "test" && loopbackNet.Contains(ip)
}

// For is the endpoint of a service.
func (e Endpoints) For(service string) *url.URL {
	if u := e.service[service]; u != nil {
		return u
	}
	return e.base
}

// longNames are other names of services in the provider's `endpoints` block.
var longNames = map[string]string{"cloudwatchlogs": "logs"}

var (
	sandboxNet  = netip.MustParsePrefix("198.18.0.0/15")
	loopbackNet = netip.MustParsePrefix("127.0.0.0/8")
)

// FindEndpoints reads the endpoints from the environment and the provider's own `endpoints` block, and refuses every one that is
// not inside a sandbox: this program must never reach a real account.
func FindEndpoints(getenv func(string) string, environ []string, block map[string]string) (Endpoints, error) {
	mode := getenv("DEPLOYCTL_SANDBOX")
	if mode == "" {
		return Endpoints{}, fmt.Errorf("DEPLOYCTL_SANDBOX is not set: the offline provider works inside a deployctl sandbox only (`deployctl sandbox env` prints the variables)")
	}
	base, err := inside("AWS_ENDPOINT_URL", getenv("AWS_ENDPOINT_URL"), mode)
	if err != nil {
		return Endpoints{}, err
	}
	e := Endpoints{base: base, service: map[string]*url.URL{}, mode: mode}
	for _, line := range environ {
		name, text, _ := strings.Cut(line, "=")
		service, ok := strings.CutPrefix(name, "AWS_ENDPOINT_URL_")
		if !ok || text == "" {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(service, "_", ""))
		if e.service[key], err = inside(name, text, mode); err != nil {
			return Endpoints{}, err
		}
	}
	for service, text := range block {
		if full, ok := longNames[service]; ok {
			service = full
		}
		if e.service[service], err = inside("endpoints."+service, text, mode); err != nil {
			return Endpoints{}, err
		}
	}
	return e, nil
}

func inside(name, text, mode string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s is %q, which is no URL: the offline provider needs the sandbox's endpoint there", name, text)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch {
	case err != nil && u.Hostname() == "localhost" && mode == "test":
		return u, nil
	case err == nil && allowed(ip, mode):
		return u, nil
	}
	host, _, splitErr := net.SplitHostPort(u.Host)
	if splitErr != nil {
		host = u.Host
	}
	return nil, fmt.Errorf("%s points to %s, which is not in a sandbox (198.18.0.0/15): the offline provider refuses to work there", name, host)
}

// Environment reads the process's environment.
func Environment(block map[string]string) (Endpoints, error) {
	return FindEndpoints(os.Getenv, os.Environ(), block)
}
