package engine

import (
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const (
	textOptions = `region profile access_key secret_key token custom_ca_bundle http_proxy https_proxy no_proxy retry_mode
		s3_us_east_1_regional_endpoint sts_region tag_policy_compliance ec2_metadata_service_endpoint ec2_metadata_service_endpoint_mode`
	boolOptions = `insecure skip_credentials_validation skip_requesting_account_id skip_region_validation
		s3_use_path_style use_dualstack_endpoint use_fips_endpoint`
	services = `acm autoscaling cloudwatch cloudwatchevents cloudwatchlogs dynamodb ec2 ecr eks elbv2 eventbridge iam kms lambda logs rds
		route53 s3 secretsmanager sns sqs ssm sts`
)

// configSchema is the part of the real provider's configuration that our stacks and their users may write.
func (s *Server) configSchema() *tfprotov6.Schema {
	if !s.set.Account { // The small providers take no configuration.
		return &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{}}
	}
	b := &tfprotov6.SchemaBlock{}
	add := func(to *tfprotov6.SchemaBlock, names string, t tftypes.Type) {
		for name := range strings.FieldsSeq(names) {
			to.Attributes = append(to.Attributes, &tfprotov6.SchemaAttribute{Name: name, Type: t, Optional: true})
		}
	}
	set, mapped := tftypes.Set{ElementType: tftypes.String}, tftypes.Map{ElementType: tftypes.String}
	add(b, textOptions, tftypes.String)
	add(b, "skip_metadata_api_check", tftypes.String)
	add(b, boolOptions, tftypes.Bool)
	add(b, "max_retries token_bucket_rate_limiter_capacity", tftypes.Number)
	add(b, "allowed_account_ids forbidden_account_ids", set)
	add(b, "shared_config_files shared_credentials_files user_agent", tftypes.List{ElementType: tftypes.String})
	nest := func(name string, mode tfprotov6.SchemaNestedBlockNestingMode, limit int64) *tfprotov6.SchemaBlock {
		inner := &tfprotov6.SchemaBlock{}
		b.BlockTypes = append(b.BlockTypes, &tfprotov6.SchemaNestedBlock{TypeName: name, Nesting: mode, MaxItems: limit, Block: inner})
		return inner
	}
	add(nest("default_tags", tfprotov6.SchemaNestedBlockNestingModeList, 1), "tags", mapped)
	ignore := nest("ignore_tags", tfprotov6.SchemaNestedBlockNestingModeList, 1)
	add(ignore, "keys key_prefixes", set)
	role := nest("assume_role", tfprotov6.SchemaNestedBlockNestingModeList, 0)
	add(role, "role_arn session_name external_id duration policy source_identity", tftypes.String)
	add(role, "policy_arns transitive_tag_keys", set)
	add(role, "tags", mapped)
	web := nest("assume_role_with_web_identity", tfprotov6.SchemaNestedBlockNestingModeList, 1)
	add(web, "role_arn session_name duration policy web_identity_token web_identity_token_file", tftypes.String)
	add(web, "policy_arns", set)
	add(nest("endpoints", tfprotov6.SchemaNestedBlockNestingModeSet, 0), services, tftypes.String)
	return &tfprotov6.Schema{Block: b}
}

func metaSchema() *tfprotov6.Schema {
	return &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{Attributes: []*tfprotov6.SchemaAttribute{
		{Name: "user_agent", Type: tftypes.List{ElementType: tftypes.String}, Optional: true},
	}}}
}

func configType(s *tfprotov6.Schema) tftypes.Type { return s.ValueType() }
