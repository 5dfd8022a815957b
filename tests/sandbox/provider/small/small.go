// Package small stands in for the small providers that the modules use: null, time, tls and cloudinit.
package small

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"deployctl/tests/sandbox/provider/engine"
)

// Set is what the provider of this name can do.
func Set(name string) engine.Set {
	none := func(*engine.Call) error { return nil }
	switch name {
	case "null":
		return engine.Set{Resources: map[string]*engine.Resource{"null_resource": {
			Replace: "triggers", Read: none, Delete: none,
			Create: func(c *engine.Call) error {
				var raw [8]byte
				if _, err := rand.Read(raw[:]); err != nil {
					return fmt.Errorf("making an id: %w", err)
				}
				c.Set("id", strconv.FormatUint(binary.BigEndian.Uint64(raw[:])>>1, 10))
				return nil
			},
		}}}
	case "time":
		return engine.Set{Resources: map[string]*engine.Resource{"time_sleep": {
			Replace: "triggers", Read: none, Update: none,
			Create: func(c *engine.Call) error {
				if err := sleep(c, "create_duration"); err != nil {
					return err
				}
				c.Set("id", time.Now().UTC().Format(time.RFC3339))
				return nil
			},
			Delete: func(c *engine.Call) error { return sleep(c, "destroy_duration") },
		}}}
	case "tls":
		return engine.Set{Data: map[string]*engine.Data{"tls_certificate": {Read: func(c *engine.Call) error {
			return errors.New("the offline provider fetches no certificates: it sends nothing out of the sandbox; the cluster's issuer needs no thumbprint on AWS either")
		}}}}
	case "cloudinit":
		return engine.Set{Data: map[string]*engine.Data{"cloudinit_config": {Read: readCloudInit}}}
	}
	return engine.Set{}
}

// sleep waits for the written time, and ends early when Terraform is interrupted.
func sleep(c *engine.Call, attribute string) error {
	if !c.Has(attribute) {
		return nil
	}
	d, err := time.ParseDuration(c.S(attribute))
	if err != nil {
		return fmt.Errorf("%s: %w", attribute, err)
	}
	until := time.Now().Add(d)
	return c.Wait(attribute+" to pass", d+time.Minute, func() (bool, error) { return !time.Now().Before(until), nil })
}
