package resources

import (
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// queueAttributes maps arguments to SQS' attribute names.
var queueAttributes = map[string]string{
	"content_based_deduplication": "ContentBasedDeduplication", "deduplication_scope": "DeduplicationScope", "delay_seconds": "DelaySeconds",
	"fifo_throughput_limit": "FifoThroughputLimit", "kms_data_key_reuse_period_seconds": "KmsDataKeyReusePeriodSeconds",
	"kms_master_key_id": "KmsMasterKeyId", "max_message_size": "MaximumMessageSize", "message_retention_seconds": "MessageRetentionPeriod",
	"policy": "Policy", "receive_wait_time_seconds": "ReceiveMessageWaitTimeSeconds", "redrive_allow_policy": "RedriveAllowPolicy",
	"redrive_policy": "RedrivePolicy", "sqs_managed_sse_enabled": "SqsManagedSseEnabled", "visibility_timeout_seconds": "VisibilityTimeout",
}

func queues() table {
	return table{
		"aws_sqs_queue": {
			Computed: `name name_prefix deduplication_scope fifo_throughput_limit kms_data_key_reuse_period_seconds policy redrive_allow_policy
				redrive_policy sqs_managed_sse_enabled`,
			Replace:   "name name_prefix fifo_queue",
			Documents: "policy redrive_policy redrive_allow_policy",
			Defaults: map[string]any{"content_based_deduplication": false, "delay_seconds": 0.0, "fifo_queue": false, "max_message_size": 1048576.0,
				"message_retention_seconds": 345600.0, "receive_wait_time_seconds": 0.0, "visibility_timeout_seconds": 30.0},
			Create: createQueue, Read: readQueue,
			Update: func(c *engine.Call) error {
				attributes := map[string]any{}
				for name, api := range queueAttributes {
					if c.Changed(name) && !value.IsUnknown(c.At(name)) {
						attributes[api] = c.S(name)
					}
				}
				return setQueue(c, c.ID(), attributes)
			},
			Delete: func(c *engine.Call) error {
				_, err := c.JSON("sqs", "DeleteQueue", map[string]any{"QueueUrl": c.ID()})
				return engine.Absent(err, noQueue...)
			},
			Tag: func(c *engine.Call, set map[string]string, remove []string) error {
				if len(remove) > 0 {
					if _, err := c.JSON("sqs", "UntagQueue", map[string]any{"QueueUrl": c.ID(), "TagKeys": remove}); err != nil {
						return err
					}
				}
				if len(set) == 0 {
					return nil
				}
				_, err := c.JSON("sqs", "TagQueue", map[string]any{"QueueUrl": c.ID(), "Tags": set})
				return err
			},
		},
	}
}

var noQueue = []string{"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"}

// setQueue sets attributes and waits until the queue answers with them, as they spread slowly on AWS.
func setQueue(c *engine.Call, url string, attributes map[string]any) error {
	if len(attributes) == 0 {
		return nil
	}
	if _, err := c.JSON("sqs", "SetQueueAttributes", map[string]any{"QueueUrl": url, "Attributes": attributes}); err != nil {
		return err
	}
	return c.Wait("the attributes of queue "+url, briefly, func() (bool, error) {
		o, err := queueState(c, url)
		for name, want := range attributes {
			if got := o.S("Attributes." + name); got != want && !value.SameJSON(got, want) && !(value.Text(want) == "" || got == "") {
				return false, err
			}
		}
		return true, err
	})
}

func queueState(c *engine.Call, url string) (cloud.Object, error) {
	o, err := c.JSON("sqs", "GetQueueAttributes", map[string]any{"QueueUrl": url, "AttributeNames": []string{"All"}})
	return o, engine.Absent(err, noQueue...)
}

func createQueue(c *engine.Call) error {
	name := named(c)
	attributes := map[string]any{}
	if c.B("fifo_queue") {
		name = strings.TrimSuffix(name, ".fifo") + ".fifo"
		attributes["FifoQueue"] = "true"
	}
	for arg, api := range queueAttributes {
		v := c.Known(arg)
		// Arguments of FIFO queues are refused for others even when they are false.
		if v == nil || value.Text(v) == "" || !c.B("fifo_queue") && (arg == "content_based_deduplication" || arg == "deduplication_scope" || arg == "fifo_throughput_limit") {
			continue
		}
		attributes[api] = value.Text(v)
	}
	o, err := c.JSON("sqs", "CreateQueue", map[string]any{"QueueName": name, "Attributes": attributes, "tags": c.Tags()})
	if err != nil {
		return err
	}
	c.Set("id", o.S("QueueUrl"))
	return nil
}

func readQueue(c *engine.Call) error {
	o, err := queueState(c, c.ID())
	if err != nil {
		return err
	}
	for arg, api := range queueAttributes {
		if v := o.At("Attributes." + api); v != nil {
			c.Set(arg, v)
		} else {
			c.Set(arg, emptyQueue[arg])
		}
	}
	c.SetAll(map[string]any{"arn": o.S("Attributes.QueueArn"), "url": c.ID(), "name": lastPart(c.ID()), "name_prefix": prefixOf(c, lastPart(c.ID())),
		"fifo_queue": o.S("Attributes.FifoQueue") == "true"})
	tags, err := c.JSON("sqs", "ListQueueTags", map[string]any{"QueueUrl": c.ID()})
	if err != nil {
		return err
	}
	c.SetTags(tags.Strings("Tags"))
	return nil
}

// emptyQueue is what attributes mean that SQS leaves out.
var emptyQueue = map[string]any{"content_based_deduplication": false, "kms_data_key_reuse_period_seconds": 300.0, "sqs_managed_sse_enabled": false,
	"policy": "", "redrive_policy": "", "redrive_allow_policy": "", "kms_master_key_id": "", "delay_seconds": 0.0, "receive_wait_time_seconds": 0.0,
	"max_message_size": 1048576.0, "message_retention_seconds": 345600.0, "visibility_timeout_seconds": 30.0}

func queuePolicies() table {
	return table{
		"aws_sqs_queue_policy":               queueDocument("policy", "Policy"),
		"aws_sqs_queue_redrive_allow_policy": queueDocument("redrive_allow_policy", "RedriveAllowPolicy"),
	}
}

// queueDocument is a resource that is one attribute of a queue.
func queueDocument(argument, attribute string) *engine.Resource {
	put := func(c *engine.Call) error {
		err := setQueue(c, c.S("queue_url"), map[string]any{attribute: c.S(argument)})
		if err == nil {
			c.Set("id", c.S("queue_url"))
		}
		return err
	}
	return &engine.Resource{
		Replace: "queue_url", Documents: engine.Words(argument), Create: put, Update: put,
		Read: func(c *engine.Call) error {
			o, err := queueState(c, c.ID())
			if err != nil {
				return err
			}
			document := o.S("Attributes." + attribute)
			if document == "" {
				return engine.ErrGone
			}
			c.SetAll(map[string]any{"queue_url": c.ID(), argument: document})
			return nil
		},
		Delete: func(c *engine.Call) error {
			_, err := c.JSON("sqs", "SetQueueAttributes", map[string]any{"QueueUrl": c.ID(), "Attributes": map[string]any{attribute: ""}})
			return engine.Absent(err, noQueue...)
		},
	}
}
