package resources

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func buckets() table {
	return table{
		"aws_s3_bucket": {
			Computed: `bucket bucket_prefix bucket_namespace acceleration_status acl policy request_payer object_lock_enabled cors_rule grant lifecycle_rule logging
				object_lock_configuration replication_configuration server_side_encryption_configuration versioning website`,
			Replace:  "bucket bucket_prefix object_lock_enabled bucket_namespace",
			Defaults: map[string]any{"force_destroy": false},
			Create: func(c *engine.Call) error {
				name := c.S("bucket")
				if name == "" {
					prefix := c.S("bucket_prefix")
					if prefix == "" {
						prefix = "terraform-"
					}
					name = unique(prefix)
				}
				var body []byte
				if c.Region != "us-east-1" {
					body = []byte(cloud.El("CreateBucketConfiguration", cloud.Leaf("LocationConstraint", c.Region)))
				}
				header := map[string]string{}
				if c.B("object_lock_enabled") {
					header["X-Amz-Bucket-Object-Lock-Enabled"] = "true"
				}
				if _, err := c.S3("CreateBucket", http.MethodPut, name, "", body, header); err != nil {
					return err
				}
				c.Set("id", name)
				return bucketTag(c, c.Tags(), nil)
			},
			Read: readBucket,
			// Everything else about a bucket is a resource of its own.
			Update: func(*engine.Call) error { return nil },
			Tag:    bucketTag,
			Delete: func(c *engine.Call) error {
				if c.B("force_destroy") {
					if err := emptyBucket(c); err != nil {
						return err
					}
				}
				_, err := c.S3("DeleteBucket", http.MethodDelete, c.ID(), "", nil, nil)
				return engine.Absent(err, "NoSuchBucket")
			},
			Import: idIsAttribute("bucket"),
		},
	}
}

// bucketTag writes all tags: S3 knows only the whole set, so tags that others put there (aws:) are kept.
func bucketTag(c *engine.Call, _ map[string]string, _ []string) error {
	all := c.Tags()
	if len(all) == 0 {
		_, err := c.S3("PutBucketTagging", http.MethodDelete, c.ID(), "tagging=", nil, nil)
		return err
	}
	var tags strings.Builder
	for _, k := range sorted(all) {
		tags.WriteString(cloud.El("Tag", cloud.El("Key", cloud.Text(k)), cloud.El("Value", cloud.Text(all[k]))))
	}
	_, err := c.S3("PutBucketTagging", http.MethodPut, c.ID(), "tagging=", []byte(cloud.El("Tagging", cloud.El("TagSet", tags.String()))), nil)
	return err
}

// hostedZones are S3's own Route 53 zones; other regions are left empty.
var hostedZones = map[string]string{"us-east-1": "Z3AQBSTGFYJSTF", "us-east-2": "Z2O1EMRO9K5GLX", "us-west-2": "Z3BJ6K6RIION7M",
	"eu-west-1": "Z1BKCTXD74EZPE", "eu-central-1": "Z21DNDUVLTQW6Q"}

func readBucket(c *engine.Call) error {
	name := c.ID()
	if _, err := c.S3("ListBucket", http.MethodHead, name, "", nil, nil); err != nil {
		return engine.Absent(err, "NoSuchBucket", "NotFound")
	}
	c.SetAll(map[string]any{"arn": "arn:" + c.Meta.Partition + ":s3:::" + name, "bucket": name, "bucket_region": c.Region,
		"bucket_domain_name": name + ".s3.amazonaws.com", "bucket_regional_domain_name": name + ".s3." + c.Region + ".amazonaws.com",
		"hosted_zone_id": hostedZones[c.Region], "request_payer": "BucketOwner", "bucket_namespace": "global"})
	if prefix := c.Given("bucket_prefix"); prefix == nil {
		c.Set("bucket_prefix", "")
	}
	if !c.Has("object_lock_enabled") {
		c.Set("object_lock_enabled", false)
	}
	if err := readBucketSettings(c); err != nil {
		return err
	}
	tags, err := c.S3("GetBucketTagging", http.MethodGet, name, "tagging=", nil, nil)
	if err != nil && !cloud.Is(err, "NoSuchTagSet") {
		return err
	}
	c.SetTags(tags.Pairs("TagSet/Tag", "Key", "Value"))
	return nil
}

// bucketReads are the settings that the real provider reads with every bucket, with the IAM action of each: a policy that lacks one
// of them fails there, so it has to fail here.
var bucketReads = [][2]string{{"policy", "GetBucketPolicy"}, {"acl", "GetBucketAcl"}, {"cors", "GetBucketCORS"}, {"website", "GetBucketWebsite"},
	{"versioning", "GetBucketVersioning"}, {"accelerate", "GetAccelerateConfiguration"}, {"requestPayment", "GetBucketRequestPayment"},
	{"logging", "GetBucketLogging"}, {"lifecycle", "GetLifecycleConfiguration"}, {"replication", "GetReplicationConfiguration"},
	{"encryption", "GetEncryptionConfiguration"}, {"object-lock", "GetBucketObjectLockConfiguration"}}

// readBucketSettings asks for them; what they say is the state of the resources of their own.
func readBucketSettings(c *engine.Call) error {
	for _, r := range bucketReads {
		_, err := c.S3Text(r[1], c.ID(), r[0]+"=")
		var refused *cloud.Error
		if errors.As(err, &refused) && refused.Status != http.StatusForbidden {
			continue // Not set.
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyBucket deletes every version of every object, page by page.
func emptyBucket(c *engine.Call) error {
	for {
		n, err := c.S3("ListBucketVersions", http.MethodGet, c.ID(), "versions=", nil, nil)
		if err != nil {
			return engine.Absent(err, "NoSuchBucket")
		}
		versions := append(n.All("Version"), n.All("DeleteMarker")...)
		if len(versions) == 0 {
			return nil
		}
		for _, v := range versions {
			query := ""
			if id := v.S("VersionId"); id != "" {
				query = "versionId=" + url.QueryEscape(id)
			}
			if _, err := c.S3("DeleteObjectVersion", http.MethodDelete, c.ID()+"/"+(&url.URL{Path: v.S("Key")}).EscapedPath(), query, nil, nil); err != nil {
				return err
			}
		}
		if c.Stopped() {
			return nil
		}
	}
}

// subresource is a setting of a bucket that S3 keeps as one XML document.
type subresource struct {
	query, root, put, get string
	fields                []field
	absent                []string
	// attributes is the table of Terraform's side; its Create to Import are filled in here.
	attributes engine.Resource
	// after may look at what was read, before it becomes state.
	after func(*engine.Call, map[string]any)
	// header gives more headers for writing.
	header func(*engine.Call) map[string]string
	// removed is the document that means "no setting", for those without a DELETE.
	removed string
}

func (s subresource) resource() *engine.Resource {
	r := s.attributes
	put := func(c *engine.Call) error {
		body := cloud.El(s.root, write(s.fields, c.State))
		var header map[string]string
		if s.header != nil {
			header = s.header(c)
		}
		// A bucket of a moment ago, or a policy it depends on, may not be seen everywhere yet.
		err := c.Wait("bucket "+c.S("bucket")+" to take its "+s.query, briefly, func() (bool, error) {
			_, err := c.S3(s.put, http.MethodPut, c.S("bucket"), s.query+"=", []byte(body), header)
			if cloud.Is(err, "OperationAborted") {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		c.Set("id", c.S("bucket"))
		return nil
	}
	r.Create, r.Update = put, put
	r.Replace += " bucket expected_bucket_owner"
	r.Read = func(c *engine.Call) error {
		n, err := c.S3(s.get, http.MethodGet, c.S("bucket"), s.query+"=", nil, nil)
		if err != nil {
			return engine.Absent(err, append(s.absent, "NoSuchBucket")...)
		}
		m := readFields(s.fields, n)
		if s.after != nil {
			s.after(c, m)
		}
		empty := true
		for _, v := range m {
			if l, ok := v.([]any); !ok || len(l) > 0 {
				empty = empty && v == nil || ok && len(l) == 0
			}
		}
		if empty {
			return engine.ErrGone
		}
		c.SetAll(m)
		return nil
	}
	r.Delete = func(c *engine.Call) error {
		if s.removed != "" {
			_, err := c.S3(s.put, http.MethodPut, c.S("bucket"), s.query+"=", []byte(s.removed), nil)
			return engine.Absent(err, "NoSuchBucket")
		}
		_, err := c.S3(s.put, http.MethodDelete, c.S("bucket"), s.query+"=", nil, nil)
		return engine.Absent(err, append(s.absent, "NoSuchBucket")...)
	}
	r.Import = idIsAttribute("bucket")
	return &r
}

func bucketPolicy() *engine.Resource {
	put := func(c *engine.Call) error {
		_, err := c.S3("PutBucketPolicy", http.MethodPut, c.S("bucket"), "policy=", []byte(c.S("policy")), map[string]string{"Content-Type": "application/json"})
		if err == nil {
			c.Set("id", c.S("bucket"))
		}
		return err
	}
	return &engine.Resource{
		Replace: "bucket", Documents: "policy", Create: put, Update: put, Import: idIsAttribute("bucket"),
		Read: func(c *engine.Call) error {
			policy, err := c.S3Text("GetBucketPolicy", c.S("bucket"), "policy=")
			if err != nil {
				return engine.Absent(err, "NoSuchBucketPolicy", "NoSuchBucket")
			}
			c.Set("policy", policy)
			return nil
		},
		Delete: func(c *engine.Call) error {
			_, err := c.S3("DeleteBucketPolicy", http.MethodDelete, c.S("bucket"), "policy=", nil, nil)
			return engine.Absent(err, "NoSuchBucketPolicy", "NoSuchBucket")
		},
	}
}

func token(c *engine.Call) map[string]string {
	if !c.Has("token") {
		return nil
	}
	return map[string]string{"X-Amz-Bucket-Object-Lock-Token": base64.StdEncoding.EncodeToString([]byte(c.S("token")))}
}
