package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/value"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// requestTimeout bounds one request; waits for an object to be ready are made of many.
const requestTimeout = 60 * time.Second

// ConfigureProvider checks that this is a sandbox and whose account it is.
func (s *Server) ConfigureProvider(ctx context.Context, q *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	resp := &tfprotov6.ConfigureProviderResponse{}
	if !s.set.Account {
		return resp, nil
	}
	written, err := value.Unpack(q.Config, configType(s.configSchema()))
	if err == nil {
		s.meta, err = configure(ctx, written)
	}
	if err != nil {
		resp.Diagnostics = problem("The offline AWS provider does not start", err)
		return resp, nil
	}
	resp.Diagnostics = []*tfprotov6.Diagnostic{{
		Severity: tfprotov6.DiagnosticSeverityWarning, Summary: "offline stand-in for hashicorp/aws in a deployctl sandbox",
		Detail: "This is not HashiCorp's provider: it has the same schema and works on the sandbox's AWS APIs only.",
	}}
	return resp, nil
}

// unsupported are blocks of the real provider's configuration that would change what it does, and that are not acted on here.
var unsupported = []string{"ignore_tags", "assume_role_with_web_identity"}

func configure(ctx context.Context, written map[string]any) (*Meta, error) {
	for _, name := range unsupported {
		if len(value.List(written[name])) > 0 {
			return nil, fmt.Errorf("the offline provider does not know the block %s (a web identity is taken from AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN)", name)
		}
	}
	ends, err := cloud.Environment(texts(firstBlock(written, "endpoints")))
	if err != nil {
		return nil, err
	}
	// No proxy: nothing may leave the sandbox.
	client := awshttp.NewBuildableClient().WithTimeout(requestTimeout).WithTransportOptions(func(t *http.Transport) {
		t.Proxy = nil
		t.MaxIdleConnsPerHost = 16
	}).WithDialerOptions(ends.OnlyInside)
	cfg, err := awsConfig(ctx, written, client, ends)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: set `region` in the provider block or AWS_REGION")
	}
	creds := assume(cfg, written, ends)
	m := &Meta{Region: cfg.Region, Partition: partition(cfg.Region), Client: &cloud.Client{Credentials: creds, Endpoints: ends, HTTP: client}}
	me, err := cloud.API{Client: m.Client, Ctx: ctx, Region: m.Region}.Query("sts", "GetCallerIdentity", nil)
	if err != nil {
		return nil, fmt.Errorf("asking who the caller is: %w", err)
	}
	m.Account, m.CallerARN, m.CallerID = me.S("Account"), me.S("Arn"), me.S("UserId")
	if allowed := value.Texts(written["allowed_account_ids"]); len(allowed) > 0 && !slices.Contains(allowed, m.Account) {
		return nil, fmt.Errorf("AWS account ID not allowed: %s (allowed_account_ids: %s)", m.Account, strings.Join(allowed, ", "))
	}
	if slices.Contains(value.Texts(written["forbidden_account_ids"]), m.Account) {
		return nil, fmt.Errorf("AWS account ID not allowed: %s is in forbidden_account_ids", m.Account)
	}
	m.DefaultTags = texts(value.Map(firstBlock(written, "default_tags")["tags"]))
	return m, nil
}

func awsConfig(ctx context.Context, written map[string]any, client *awshttp.BuildableClient, ends cloud.Endpoints) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		// Roles of profiles and web identities are assumed at the sandbox's STS; left alone, the SDK asks the real one for these.
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) { o.Client = inSandbox(o.Client, ends) }),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) { o.Client = inSandbox(o.Client, ends) }),
		config.WithHTTPClient(client),
		// There is no metadata service in a sandbox, and outside it must not be asked.
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
	}
	if region := value.Text(written["region"]); region != "" {
		options = append(options, config.WithRegion(region))
	}
	if profile := value.Text(written["profile"]); profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	if key := value.Text(written["access_key"]); key != "" {
		secret, token := value.Text(written["secret_key"]), value.Text(written["token"])
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(key, secret, token)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("reading AWS' configuration: %w", err)
	}
	return cfg, nil
}

// inSandbox is the same STS client at the sandbox's endpoint.
func inSandbox[C any](client C, ends cloud.Endpoints) C {
	given, ok := any(client).(*sts.Client)
	if !ok {
		return client
	}
	options, base := given.Options(), ends.For("sts").String()
	options.BaseEndpoint = &base
	moved, ok := any(sts.New(options)).(C)
	if !ok {
		return client
	}
	return moved
}

// assume is the chain of roles that the configuration asks for, each assumed with the credentials before it.
func assume(cfg aws.Config, written map[string]any, ends cloud.Endpoints) aws.CredentialsProvider {
	creds := cfg.Credentials
	for _, item := range value.List(written["assume_role"]) {
		role := value.Map(item)
		arn := value.Text(role["role_arn"])
		if arn == "" {
			continue
		}
		base := ends.For("sts").String()
		client := sts.New(sts.Options{Region: cfg.Region, Credentials: creds, HTTPClient: cfg.HTTPClient, BaseEndpoint: &base})
		creds = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(client, arn, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = value.Text(role["session_name"])
			if o.RoleSessionName == "" {
				o.RoleSessionName = "terraform"
			}
			if id := value.Text(role["external_id"]); id != "" {
				o.ExternalID = &id
			}
			if d, err := time.ParseDuration(value.Text(role["duration"])); err == nil {
				o.Duration = d
			}
		}))
	}
	return creds
}

func firstBlock(m map[string]any, name string) map[string]any {
	if l := value.List(m[name]); len(l) > 0 {
		return value.Map(l[0])
	}
	return nil
}

func texts(m map[string]any) map[string]string {
	out := map[string]string{}
	for k := range maps.Keys(m) {
		if s := value.Text(m[k]); s != "" {
			out[k] = s
		}
	}
	return out
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
