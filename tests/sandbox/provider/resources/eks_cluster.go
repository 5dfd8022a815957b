package resources

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func eksClusters() table {
	return table{
		"aws_eks_cluster": {
			Computed: `version deletion_protection access_config access_config.authentication_mode kubernetes_network_config kubernetes_network_config.ip_family
				kubernetes_network_config.service_ipv4_cidr upgrade_policy upgrade_policy.support_type vpc_config.public_access_cidrs
				vpc_config.control_plane_egress_mode control_plane_scaling_config control_plane_scaling_config.tier`,
			Replace: `name role_arn bootstrap_self_managed_addons access_config.bootstrap_cluster_creator_admin_permissions outpost_config encryption_config
				kubernetes_network_config.ip_family kubernetes_network_config.service_ipv4_cidr`,
			Defaults: map[string]any{"bootstrap_self_managed_addons": true, "vpc_config.endpoint_private_access": false, "vpc_config.endpoint_public_access": true,
				"access_config.bootstrap_cluster_creator_admin_permissions": true},
			Refreshed: "platform_version",
			Adjust: func(p *Plan) error {
				// Only another version of Kubernetes brings another platform.
				if !p.Creating() && !p.Changed("version") {
					p.Planned["platform_version"] = p.Prior["platform_version"]
				}
				return nil
			},
			Create: createCluster, Read: readCluster, Update: updateCluster, Tag: eksTag("arn"),
			Delete: func(c *engine.Call) error {
				_, err := c.REST("eks", "DeleteCluster", "DELETE", "/clusters/"+c.ID(), nil)
				if err != nil {
					return engine.Absent(err, "ResourceNotFoundException")
				}
				return c.Gone("EKS cluster "+c.ID(), c.Timeout("delete", 15*time.Minute), func() error { _, err := cluster(c, c.ID()); return err })
			},
			// EKS tells of no self-managed add-ons, so the real provider writes its default, which the configuration ignores.
			Import: func(c *engine.Call, id string) error {
				c.SetAll(map[string]any{"name": id, "bootstrap_self_managed_addons": true})
				return nil
			},
		},
	}
}

// requestToken makes a repeated request the same request for AWS.
func requestToken() string { return rand.Text() }

// eksTag makes the tagging function of objects whose ARN is in an attribute.
func eksTag(arn string) func(*engine.Call, map[string]string, []string) error {
	return func(c *engine.Call, set map[string]string, remove []string) error {
		path := "/tags/" + url.PathEscape(c.S(arn))
		if len(remove) > 0 {
			query := url.Values{"tagKeys": remove}
			if _, err := c.REST("eks", "UntagResource", "DELETE", path+"?"+query.Encode(), nil); err != nil {
				return err
			}
		}
		if len(set) == 0 {
			return nil
		}
		_, err := c.REST("eks", "TagResource", "POST", path, map[string]any{"tags": set})
		return err
	}
}

func cluster(c *engine.Call, name string) (cloud.Object, error) {
	o, err := c.REST("eks", "DescribeCluster", "GET", "/clusters/"+name, nil)
	return o.O("cluster"), engine.Absent(err, "ResourceNotFoundException")
}

func createCluster(c *engine.Call) error {
	p := map[string]any{
		"name": c.S("name"), "roleArn": c.S("role_arn"), "version": c.Given("version"), "clientRequestToken": requestToken(), "tags": c.Tags(),
		"bootstrapSelfManagedAddons": c.B("bootstrap_self_managed_addons"), "deletionProtection": c.Known("deletion_protection"),
		"resourcesVpcConfig": map[string]any{"subnetIds": c.Texts("vpc_config.subnet_ids"), "securityGroupIds": orNilList(c.Texts("vpc_config.security_group_ids")),
			"endpointPrivateAccess": c.B("vpc_config.endpoint_private_access"), "endpointPublicAccess": c.B("vpc_config.endpoint_public_access"),
			"publicAccessCidrs": orNilList(c.Texts("vpc_config.public_access_cidrs"))},
	}
	if len(c.Objects("access_config")) > 0 {
		p["accessConfig"] = map[string]any{"authenticationMode": c.Given("access_config.authentication_mode"),
			"bootstrapClusterCreatorAdminPermissions": c.Known("access_config.bootstrap_cluster_creator_admin_permissions")}
	}
	if len(c.Objects("kubernetes_network_config")) > 0 {
		p["kubernetesNetworkConfig"] = map[string]any{"ipFamily": c.Given("kubernetes_network_config.ip_family"), "serviceIpv4Cidr": c.Given("kubernetes_network_config.service_ipv4_cidr")}
	}
	if v := c.Given("upgrade_policy.support_type"); v != nil {
		p["upgradePolicy"] = map[string]any{"supportType": v}
	}
	if v := c.Known("zonal_shift_config.enabled"); v != nil {
		p["zonalShiftConfig"] = map[string]any{"enabled": v}
	}
	if types := c.Texts("enabled_cluster_log_types"); len(types) > 0 {
		p["logging"] = clusterLogging(types)
	}
	for _, e := range c.Objects("encryption_config") {
		p["encryptionConfig"] = []any{map[string]any{"resources": value.Texts(e["resources"]), "provider": map[string]any{"keyArn": text(at(e, "provider"), "key_arn")}}}
	}
	// A role of a moment ago may not be assumable yet.
	err := c.Wait("the cluster's role to be usable", briefly, func() (bool, error) {
		_, err := c.REST("eks", "CreateCluster", "POST", "/clusters", p)
		if cloud.Is(err, "InvalidParameterException") && slices.ContainsFunc([]string{"does not exist", "cannot be assumed"}, func(s string) bool { return contains(err, s) }) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	c.Set("id", c.S("name"))
	return c.Wait("EKS cluster "+c.ID()+" to be active", c.Timeout("create", 30*time.Minute), func() (bool, error) {
		o, err := cluster(c, c.ID())
		if o.S("status") == "FAILED" {
			return false, errors.New("EKS cluster " + c.ID() + " failed: " + issues(o))
		}
		return o.S("status") == "ACTIVE", err
	})
}

func issues(o cloud.Object) string {
	out := ""
	for _, i := range o.List("health.issues") {
		out += i.S("code") + ": " + i.S("message") + "; "
	}
	return out
}

var allLogTypes = []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}

func clusterLogging(types []string) map[string]any {
	setups := []any{map[string]any{"enabled": true, "types": types}}
	off := slices.DeleteFunc(slices.Clone(allLogTypes), func(t string) bool { return slices.Contains(types, t) })
	if len(off) > 0 {
		setups = append(setups, map[string]any{"enabled": false, "types": off})
	}
	return map[string]any{"clusterLogging": setups}
}

func readCluster(c *engine.Call) error {
	o, err := cluster(c, c.ID())
	if err != nil {
		return err
	}
	vpc := o.O("resourcesVpcConfig")
	logs := []any{}
	for _, l := range o.List("logging.clusterLogging") {
		if l.At("enabled") == true {
			logs = append(logs, value.List(l.At("types"))...)
		}
	}
	mode, policy := o.S("accessConfig.authenticationMode"), o.S("upgradePolicy.supportType")
	// Whether its creator was made administrator is told at creation only.
	creator := c.Known("access_config.bootstrap_cluster_creator_admin_permissions")
	if creator == nil {
		creator = o.At("accessConfig.bootstrapClusterCreatorAdminPermissions")
	}
	c.SetAll(map[string]any{
		"arn": o.S("arn"), "name": o.S("name"), "role_arn": o.S("roleArn"), "version": o.S("version"), "status": o.S("status"), "endpoint": o.S("endpoint"),
		"platform_version": o.S("platformVersion"), "created_at": rfc3339(o.At("createdAt")), "cluster_id": nil, "enabled_cluster_log_types": logs,
		"certificate_authority": block(map[string]any{"data": o.S("certificateAuthority.data")}), "deletion_protection": o.At("deletionProtection") == true,
		"identity":      block(map[string]any{"oidc": block(map[string]any{"issuer": o.S("identity.oidc.issuer")})}),
		"access_config": block(map[string]any{"authentication_mode": mode, "bootstrap_cluster_creator_admin_permissions": creator}),
		"kubernetes_network_config": block(map[string]any{"ip_family": o.S("kubernetesNetworkConfig.ipFamily"), "service_ipv4_cidr": o.S("kubernetesNetworkConfig.serviceIpv4Cidr"),
			"service_ipv6_cidr": o.S("kubernetesNetworkConfig.serviceIpv6Cidr"), "elastic_load_balancing": c.At("kubernetes_network_config.elastic_load_balancing")}),
		"vpc_config": block(map[string]any{"subnet_ids": vpc.At("subnetIds"), "security_group_ids": vpc.At("securityGroupIds"), "vpc_id": vpc.S("vpcId"),
			"cluster_security_group_id": vpc.S("clusterSecurityGroupId"), "endpoint_private_access": vpc.At("endpointPrivateAccess") == true,
			"endpoint_public_access": vpc.At("endpointPublicAccess") == true, "public_access_cidrs": vpc.At("publicAccessCidrs"),
			"control_plane_egress_mode": orNil(vpc.S("controlPlaneEgressMode"))}),
		"upgrade_policy": []any{}, "control_plane_scaling_config": []any{},
	})
	if policy != "" {
		c.Set("upgrade_policy", block(map[string]any{"support_type": policy}))
	}
	if z := o.At("zonalShiftConfig.enabled"); z != nil && (len(c.Objects("zonal_shift_config")) > 0 || z == true) {
		c.Set("zonal_shift_config", block(map[string]any{"enabled": z}))
	}
	encryption := []any{}
	for _, e := range o.List("encryptionConfig") {
		encryption = append(encryption, map[string]any{"resources": e.At("resources"), "provider": block(map[string]any{"key_arn": e.S("provider.keyArn")})})
	}
	c.Set("encryption_config", encryption)
	c.SetTags(o.Strings("tags"))
	return nil
}

// rfc3339 writes EKS' seconds since 1970.
func rfc3339(v any) any {
	f, ok := value.Number(v)
	if !ok {
		return v
	}
	return time.Unix(int64(f), 0).UTC().Format(time.RFC3339)
}

func updateCluster(c *engine.Call) error {
	if c.Changed("version") {
		if err := updateClusterBy(c, "UpdateClusterVersion", "/updates", map[string]any{"version": c.S("version"), "force": c.Known("force_update_version")}); err != nil {
			return err
		}
	}
	// EKS takes one kind of change at a time.
	changes := []map[string]any{}
	if c.Changed("access_config.authentication_mode") {
		changes = append(changes, map[string]any{"accessConfig": map[string]any{"authenticationMode": c.S("access_config.authentication_mode")}})
	}
	if c.Changed("enabled_cluster_log_types") {
		changes = append(changes, map[string]any{"logging": clusterLogging(c.Texts("enabled_cluster_log_types"))})
	}
	if c.Changed("upgrade_policy.support_type") {
		changes = append(changes, map[string]any{"upgradePolicy": map[string]any{"supportType": c.S("upgrade_policy.support_type")}})
	}
	if c.Changed("zonal_shift_config.enabled") {
		changes = append(changes, map[string]any{"zonalShiftConfig": map[string]any{"enabled": c.B("zonal_shift_config.enabled")}})
	}
	if c.Changed("deletion_protection") {
		changes = append(changes, map[string]any{"deletionProtection": c.B("deletion_protection")})
	}
	if c.Changed("vpc_config.endpoint_private_access", "vpc_config.endpoint_public_access", "vpc_config.public_access_cidrs") {
		changes = append(changes, map[string]any{"resourcesVpcConfig": map[string]any{"endpointPrivateAccess": c.B("vpc_config.endpoint_private_access"),
			"endpointPublicAccess": c.B("vpc_config.endpoint_public_access"), "publicAccessCidrs": orNilList(c.Texts("vpc_config.public_access_cidrs"))}})
	}
	if c.Changed("vpc_config.subnet_ids", "vpc_config.security_group_ids") {
		changes = append(changes, map[string]any{"resourcesVpcConfig": map[string]any{"subnetIds": c.Texts("vpc_config.subnet_ids"), "securityGroupIds": c.Texts("vpc_config.security_group_ids")}})
	}
	for _, p := range changes {
		if err := updateClusterBy(c, "UpdateClusterConfig", "/update-config", p); err != nil {
			return err
		}
	}
	return nil
}

func updateClusterBy(c *engine.Call, action, path string, p map[string]any) error {
	return eksUpdate(c, action, "/clusters/"+c.ID()+path, "/clusters/"+c.ID()+"/updates/", "", p)
}

// eksUpdate starts an update and waits for its end.
func eksUpdate(c *engine.Call, action, path, status, query string, p map[string]any) error {
	p["clientRequestToken"] = requestToken()
	o, err := c.REST("eks", action, "POST", path, p)
	if err != nil {
		return err
	}
	id := o.S("update.id")
	return c.Wait("EKS' update "+id, c.Timeout("update", 60*time.Minute), func() (bool, error) {
		u, err := c.REST("eks", "DescribeUpdate", "GET", status+id+query, nil)
		switch u.S("update.status") {
		case "Failed", "Cancelled":
			return false, fmt.Errorf("EKS' update %s: %s %v", id, u.S("update.status"), u.At("update.errors"))
		}
		return u.S("update.status") == "Successful", err
	})
}
