package resources

import (
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

var lifecycleRule = []field{
	{name: "id", tag: "ID"},
	{"filter", "Filter", nested, append([]field{
		{"and", "And", nested, append([]field{{name: "tags", tag: "Tag", kind: tagMap}}, lifecycleFilter...)},
		{"tag", "Tag", nested, []field{{name: "key", tag: "Key"}, {name: "value", tag: "Value"}}},
	}, lifecycleFilter...)},
	{name: "prefix", tag: "Prefix"},
	{name: "status", tag: "Status"},
	{"transition", "Transition", nested, []field{{name: "date", tag: "Date"}, {name: "days", tag: "Days"}, {name: "storage_class", tag: "StorageClass"}}},
	{"expiration", "Expiration", nested, []field{{name: "date", tag: "Date"}, {name: "days", tag: "Days"},
		{name: "expired_object_delete_marker", tag: "ExpiredObjectDeleteMarker"}}},
	{"noncurrent_version_transition", "NoncurrentVersionTransition", nested, []field{{name: "noncurrent_days", tag: "NoncurrentDays"},
		{name: "newer_noncurrent_versions", tag: "NewerNoncurrentVersions"}, {name: "storage_class", tag: "StorageClass"}}},
	{"noncurrent_version_expiration", "NoncurrentVersionExpiration", nested, []field{{name: "noncurrent_days", tag: "NoncurrentDays"},
		{name: "newer_noncurrent_versions", tag: "NewerNoncurrentVersions"}}},
	{"abort_incomplete_multipart_upload", "AbortIncompleteMultipartUpload", nested, []field{{name: "days_after_initiation", tag: "DaysAfterInitiation"}}},
}

var lifecycleFilter = []field{{name: "prefix", tag: "Prefix"}, {name: "object_size_greater_than", tag: "ObjectSizeGreaterThan"},
	{name: "object_size_less_than", tag: "ObjectSizeLessThan"}}

const minimumSizeHeader = "X-Amz-Transition-Default-Minimum-Object-Size"

func bucketLifecycle() table {
	return table{
		"aws_s3_bucket_lifecycle_configuration": subresource{
			query: "lifecycle", root: "LifecycleConfiguration", put: "PutLifecycleConfiguration", get: "GetLifecycleConfiguration",
			absent: []string{"NoSuchLifecycleConfiguration"},
			attributes: engine.Resource{
				Computed: "transition_default_minimum_object_size rule.transition.days",
				Defaults: map[string]any{"transition_default_minimum_object_size": "all_storage_classes_128K"},
			},
			fields: []field{{"rule", "Rule", nested, lifecycleRule}},
			header: func(c *engine.Call) map[string]string {
				return map[string]string{minimumSizeHeader: c.S("transition_default_minimum_object_size")}
			},
			after: func(c *engine.Call, m map[string]any) {
				if c.Importing {
					c.Set("transition_default_minimum_object_size", "all_storage_classes_128K")
				}
				withoutUnasked(c.Objects("rule"), value.List(m["rule"]))
			},
		}.resource(),
	}
}

// withoutUnasked drops the empty filter that S3 gives a rule which was written without one.
func withoutUnasked(asked []map[string]any, found []any) {
	for i, item := range found {
		rule := value.Map(item)
		filters := value.List(rule["filter"])
		if i < len(asked) && value.Empty(asked[i]["filter"]) && len(filters) == 1 && value.Canonical(filters[0]) == value.Canonical(map[string]any{"and": []any{}, "tag": []any{}}) {
			rule["filter"] = []any{}
		}
	}
}

var replicationRule = []field{
	{name: "id", tag: "ID"},
	{name: "priority", tag: "Priority"},
	{name: "status", tag: "Status"},
	{name: "prefix", tag: "Prefix"},
	{"filter", "Filter", nested, []field{{name: "prefix", tag: "Prefix"},
		{"and", "And", nested, []field{{name: "prefix", tag: "Prefix"}, {name: "tags", tag: "Tag", kind: tagMap}}},
		{"tag", "Tag", nested, []field{{name: "key", tag: "Key"}, {name: "value", tag: "Value"}}}}},
	{"delete_marker_replication", "DeleteMarkerReplication", nested, status},
	{"existing_object_replication", "ExistingObjectReplication", nested, status},
	{"source_selection_criteria", "SourceSelectionCriteria", nested, []field{{"replica_modifications", "ReplicaModifications", nested, status},
		{"sse_kms_encrypted_objects", "SseKmsEncryptedObjects", nested, status}}},
	{"destination", "Destination", nested, []field{{name: "bucket", tag: "Bucket"}, {name: "account", tag: "Account"}, {name: "storage_class", tag: "StorageClass"},
		{"access_control_translation", "AccessControlTranslation", nested, []field{{name: "owner", tag: "Owner"}}},
		{"encryption_configuration", "EncryptionConfiguration", nested, []field{{name: "replica_kms_key_id", tag: "ReplicaKmsKeyID"}}},
		{"metrics", "Metrics", nested, append([]field{{"event_threshold", "EventThreshold", nested, minutes}}, status...)},
		{"replication_time", "ReplicationTime", nested, append([]field{{"time", "Time", nested, minutes}}, status...)}}},
}

var (
	status  = []field{{name: "status", tag: "Status"}}
	minutes = []field{{name: "minutes", tag: "Minutes"}}
)

func bucketReplication() table {
	s := subresource{
		query: "replication", root: "ReplicationConfiguration", put: "PutReplicationConfiguration", get: "GetReplicationConfiguration",
		absent:     []string{"ReplicationConfigurationNotFoundError", "ReplicationConfigurationNotFound"},
		attributes: engine.Resource{Computed: "rule.id"},
		fields:     []field{{name: "role", tag: "Role"}, {"rule", "Rule", nested, replicationRule}},
		header:     token,
		after:      func(c *engine.Call, m map[string]any) { withoutUnasked(c.Objects("rule"), value.List(m["rule"])) },
	}
	r := s.resource()
	put := r.Create
	// S3 names rules that have no id; the real provider does it before, so that the plan's rule is found again.
	r.Create = func(c *engine.Call) error {
		for _, rule := range c.Objects("rule") {
			if rule["id"] == nil || value.IsUnknown(rule["id"]) {
				rule["id"] = unique("tf-s3-replication-")
			}
		}
		return put(c)
	}
	r.Update = r.Create
	return table{"aws_s3_bucket_replication_configuration": r}
}
