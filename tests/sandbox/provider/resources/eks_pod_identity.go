package resources

import (
	"fmt"
	"net/url"
	"strings"

	"deployctl/tests/sandbox/provider/engine"
)

func eksPodIdentity() table {
	return table{
		"aws_eks_pod_identity_association": {
			Replace: "cluster_name namespace service_account", Defaults: map[string]any{"disable_session_tags": false},
			Create: func(c *engine.Call) error {
				o, err := c.REST("eks", "CreatePodIdentityAssociation", "POST", podIdentitiesPath(c), map[string]any{
					"namespace": c.S("namespace"), "serviceAccount": c.S("service_account"), "roleArn": c.S("role_arn"), "targetRoleArn": c.Given("target_role_arn"),
					"disableSessionTags": c.B("disable_session_tags"), "tags": c.Tags(), "clientRequestToken": requestToken()})
				if err == nil {
					c.Set("id", o.S("association.associationId"))
				}
				return err
			},
			Read: readPodIdentity,
			Update: func(c *engine.Call) error {
				if !c.Changed("role_arn", "disable_session_tags", "target_role_arn") {
					return nil
				}
				_, err := c.REST("eks", "UpdatePodIdentityAssociation", "POST", podIdentityPath(c), map[string]any{"roleArn": c.S("role_arn"),
					"targetRoleArn": c.Given("target_role_arn"), "disableSessionTags": c.B("disable_session_tags"), "clientRequestToken": requestToken()})
				return err
			},
			Delete: func(c *engine.Call) error {
				_, err := c.REST("eks", "DeletePodIdentityAssociation", "DELETE", podIdentityPath(c), nil)
				return engine.Absent(err, "ResourceNotFoundException")
			},
			Tag: eksTag("association_arn"),
			Import: func(c *engine.Call, id string) error {
				cluster, association, ok := strings.Cut(id, ",")
				if !ok {
					return fmt.Errorf("%q is not CLUSTER,ASSOCIATIONID", id)
				}
				c.SetAll(map[string]any{"cluster_name": cluster, "id": association})
				return nil
			},
		},
	}
}

func podIdentitiesPath(c *engine.Call) string {
	return "/clusters/" + c.S("cluster_name") + "/pod-identity-associations"
}

func podIdentityPath(c *engine.Call) string {
	return podIdentitiesPath(c) + "/" + url.PathEscape(c.ID())
}

func readPodIdentity(c *engine.Call) error {
	o, err := c.REST("eks", "DescribePodIdentityAssociation", "GET", podIdentityPath(c), nil)
	if err != nil {
		return engine.Absent(err, "ResourceNotFoundException")
	}
	a := o.O("association")
	c.SetAll(map[string]any{"association_arn": a.S("associationArn"), "association_id": a.S("associationId"), "cluster_name": a.S("clusterName"),
		"namespace": a.S("namespace"), "service_account": a.S("serviceAccount"), "role_arn": a.S("roleArn"),
		"disable_session_tags": a.At("disableSessionTags") == true, "external_id": a.At("externalId"), "target_role_arn": a.At("targetRoleArn")})
	c.SetTags(a.Strings("tags"))
	return nil
}
