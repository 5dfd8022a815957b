package resources

import (
	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func bucketSettings() table {
	return table{
		"aws_s3_bucket_policy": bucketPolicy(),
		"aws_s3_bucket_versioning": subresource{
			query: "versioning", root: "VersioningConfiguration", put: "PutBucketVersioning", get: "GetBucketVersioning",
			fields: []field{}, removed: cloud.El("VersioningConfiguration", cloud.Leaf("Status", "Suspended")),
			attributes: engine.Resource{Computed: "versioning_configuration.mfa_delete"},
		}.versioning(),
		"aws_s3_bucket_server_side_encryption_configuration": subresource{
			query: "encryption", root: "ServerSideEncryptionConfiguration", put: "PutEncryptionConfiguration", get: "GetEncryptionConfiguration",
			absent:     []string{"ServerSideEncryptionConfigurationNotFoundError"},
			attributes: engine.Resource{Computed: "rule.blocked_encryption_types"},
			fields: []field{{"rule", "Rule", nested, []field{
				{"apply_server_side_encryption_by_default", "ApplyServerSideEncryptionByDefault", nested, []field{
					{name: "sse_algorithm", tag: "SSEAlgorithm"}, {name: "kms_master_key_id", tag: "KMSMasterKeyID"}}},
				{name: "bucket_key_enabled", tag: "BucketKeyEnabled"},
			}}},
		}.resource(),
		"aws_s3_bucket_public_access_block": subresource{
			query: "publicAccessBlock", root: "PublicAccessBlockConfiguration", put: "PutBucketPublicAccessBlock", get: "GetBucketPublicAccessBlock",
			absent: []string{"NoSuchPublicAccessBlockConfiguration"},
			attributes: engine.Resource{Defaults: map[string]any{"block_public_acls": false, "block_public_policy": false, "ignore_public_acls": false,
				"restrict_public_buckets": false}},
			fields: []field{{name: "block_public_acls", tag: "BlockPublicAcls"}, {name: "ignore_public_acls", tag: "IgnorePublicAcls"},
				{name: "block_public_policy", tag: "BlockPublicPolicy"}, {name: "restrict_public_buckets", tag: "RestrictPublicBuckets"}},
		}.resource(),
		"aws_s3_bucket_ownership_controls": subresource{
			query: "ownershipControls", root: "OwnershipControls", put: "PutBucketOwnershipControls", get: "GetBucketOwnershipControls",
			absent: []string{"OwnershipControlsNotFoundError"},
			fields: []field{{"rule", "Rule", nested, []field{{name: "object_ownership", tag: "ObjectOwnership"}}}},
		}.resource(),
		"aws_s3_bucket_notification": subresource{
			query: "notification", root: "NotificationConfiguration", put: "PutBucketNotification", get: "GetBucketNotification",
			removed:    "<NotificationConfiguration></NotificationConfiguration>",
			attributes: engine.Resource{Computed: "queue.id topic.id lambda_function.id"},
		}.notification(),
	}
}

// versioning: the document's fields lie at its root, Terraform's in a block.
func (s subresource) versioning() *engine.Resource {
	inner := []field{{name: "status", tag: "Status"}, {name: "mfa_delete", tag: "MfaDelete"}}
	r := s.resource()
	put := func(c *engine.Call) error {
		body := cloud.El(s.root, write(inner, at(c.State, "versioning_configuration")))
		if _, err := c.S3(s.put, "PUT", c.S("bucket"), "versioning=", []byte(body), nil); err != nil {
			return err
		}
		c.Set("id", c.S("bucket"))
		return nil
	}
	r.Create, r.Update = put, put
	r.Read = func(c *engine.Call) error {
		n, err := c.S3(s.get, "GET", c.S("bucket"), "versioning=", nil, nil)
		if err != nil {
			return engine.Absent(err, "NoSuchBucket")
		}
		m := readFields(inner, n)
		if m["status"] == nil {
			// Never switched on is what Terraform calls disabled, if that was asked for.
			if c.S("versioning_configuration.status") != "Disabled" {
				return engine.ErrGone
			}
			m["status"] = "Disabled"
		}
		if m["mfa_delete"] == nil {
			m["mfa_delete"] = ""
		}
		c.Set("versioning_configuration", block(m))
		return nil
	}
	return r
}

// notificationKinds: block, element, argument and element of the target.
var notificationKinds = [][4]string{{"queue", "QueueConfiguration", "queue_arn", "Queue"}, {"topic", "TopicConfiguration", "topic_arn", "Topic"},
	{"lambda_function", "CloudFunctionConfiguration", "lambda_function_arn", "CloudFunction"}}

func notificationFields(kind [4]string) []field {
	return []field{{name: "id", tag: "Id"}, {name: kind[2], tag: kind[3]}, {name: "events", tag: "Event", kind: many}}
}

// notification: prefix and suffix are a list of name and value in the document.
func (s subresource) notification() *engine.Resource {
	r := s.resource()
	put := func(c *engine.Call) error {
		body := ""
		for _, kind := range notificationKinds {
			for _, m := range c.Objects(kind[0]) {
				if m["id"] == nil || value.IsUnknown(m["id"]) {
					m["id"] = unique("tf-s3-" + kind[0] + "-")
				}
				rules := ""
				for name, arg := range map[string]string{"prefix": "filter_prefix", "suffix": "filter_suffix"} {
					if v := text(m, arg); v != "" {
						rules += cloud.El("FilterRule", cloud.Leaf("Name", name), cloud.Leaf("Value", v))
					}
				}
				if rules != "" {
					rules = cloud.El("Filter", cloud.El("S3Key", rules))
				}
				body += cloud.El(kind[1], write(notificationFields(kind), m), rules)
			}
		}
		if c.B("eventbridge") {
			body += cloud.El("EventBridgeConfiguration")
		}
		// The queue's policy may have been written a moment ago: S3 sends a test event and refuses until it arrives.
		err := c.Wait("S3 to accept the notification's target", briefly, func() (bool, error) {
			_, err := c.S3(s.put, "PUT", c.S("bucket"), "notification=", []byte(cloud.El(s.root, body)), nil)
			return err == nil, err
		})
		if err == nil {
			c.Set("id", c.S("bucket"))
		}
		return err
	}
	r.Create, r.Update = put, put
	r.Read = func(c *engine.Call) error {
		n, err := c.S3(s.get, "GET", c.S("bucket"), "notification=", nil, nil)
		if err != nil {
			return engine.Absent(err, "NoSuchBucket")
		}
		c.Set("eventbridge", n.At("EventBridgeConfiguration") != nil)
		for _, kind := range notificationKinds {
			list := []any{}
			for _, k := range n.All(kind[1]) {
				m := readFields(notificationFields(kind), k)
				for _, f := range k.All("Filter/S3Key/FilterRule") {
					m["filter_"+lower(f.S("Name"))] = f.S("Value")
				}
				list = append(list, m)
			}
			c.Set(kind[0], list)
		}
		return nil
	}
	return r
}
