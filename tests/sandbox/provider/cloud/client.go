// Package cloud speaks AWS' wire protocols to the sandbox's endpoint.
//
// It uses the SDK for credentials and signatures but builds requests from tables instead of the SDK's typed clients: this program
// maps names to names, and the typed EC2 client alone would take longer to compile than everything else here.
package cloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/value"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Client signs and sends requests; it is shared by all calls of a provider process.
type Client struct {
	Credentials aws.CredentialsProvider
	Endpoints   Endpoints
	HTTP        aws.HTTPClient
}

// API is a client bound to a region and to the context of one call.
type API struct {
	*Client
	Ctx    context.Context
	Region string
}

// P are the parameters of a request in a query protocol. A list is written NAME.1, NAME.2 and so on, so a name carries the list's
// member name where the service wants one (SubnetIds.SubnetIdentifier).
type P map[string]any

var versions = map[string]string{"ec2": "2016-11-15", "iam": "2010-05-08", "rds": "2014-10-31", "sts": "2011-06-15"}

// Query calls an action of a service with a query protocol (EC2, IAM, RDS, STS).
func (a API) Query(service, action string, params P) (*Node, error) {
	form := url.Values{"Action": {action}, "Version": {versions[service]}}
	flatten(form, "", map[string]any(params))
	raw, err := a.send(request{
		service: service, action: action, method: http.MethodPost, path: "/", body: []byte(form.Encode()),
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
	})
	if err != nil {
		return nil, err
	}
	root, err := parseXML(bytes.NewReader(raw.body))
	if err != nil {
		return nil, fmt.Errorf("%s:%s answered what is no XML: %w", service, action, err)
	}
	if result := root.At(action + "Result"); result != nil {
		return result, nil
	}
	return root, nil
}

func flatten(form url.Values, prefix string, v any) {
	switch v := v.(type) {
	case nil:
	case P:
		flatten(form, prefix, map[string]any(v))
	case map[string]any:
		for name, item := range v {
			if prefix != "" {
				name = prefix + "." + name
			}
			flatten(form, name, item)
		}
	case []P:
		for i, item := range v {
			flatten(form, prefix+"."+strconv.Itoa(i+1), item)
		}
	case []string, []any:
		for i, item := range value.List(v) {
			flatten(form, prefix+"."+strconv.Itoa(i+1), item)
		}
	default:
		if !value.IsUnknown(v) {
			form.Set(prefix, value.Text(v))
		}
	}
}

var targets = map[string]struct{ prefix, version string }{
	"kms":            {"TrentService", "1.1"},
	"secretsmanager": {"secretsmanager", "1.1"},
	"ssm":            {"AmazonSSM", "1.1"},
	"logs":           {"Logs_20140328", "1.1"},
	"sqs":            {"AmazonSQS", "1.0"},
	"dynamodb":       {"DynamoDB_20120810", "1.0"},
	"ecr":            {"AmazonEC2ContainerRegistry_V20150921", "1.1"},
}

// JSON calls an action of a service with a JSON protocol (KMS, Secrets Manager, SSM, logs, SQS). Null parameters are left out.
func (a API) JSON(service, action string, params map[string]any) (Object, error) {
	t := targets[service]
	body, err := json.Marshal(withoutNulls(params))
	if err != nil {
		return nil, err
	}
	raw, err := a.send(request{
		service: service, action: action, method: http.MethodPost, path: "/", body: body,
		header: map[string]string{"Content-Type": "application/x-amz-json-" + t.version, "X-Amz-Target": t.prefix + "." + action},
	})
	return raw.object(service, action, err)
}

// REST calls a REST service with JSON bodies (EKS). The action is the IAM name of the call, for messages.
func (a API) REST(service, action, method, path string, params map[string]any) (Object, error) {
	path, query, _ := strings.Cut(path, "?")
	var body []byte
	if params != nil {
		var err error
		if body, err = json.Marshal(withoutNulls(params)); err != nil {
			return nil, err
		}
	}
	raw, err := a.send(request{
		service: service, action: action, method: method, path: path, query: query, body: body,
		header: map[string]string{"Content-Type": "application/json"},
	})
	return raw.object(service, action, err)
}

func withoutNulls(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if v == nil || value.IsUnknown(v) {
			continue
		}
		if inner, ok := v.(map[string]any); ok {
			v = withoutNulls(inner)
		}
		out[k] = v
	}
	return out
}

type request struct {
	service, action, method, path, query string
	body                                 []byte
	header                               map[string]string
}

type answer struct {
	body   []byte
	header http.Header
}

func (r answer) object(service, action string, err error) (Object, error) {
	if err != nil || len(bytes.TrimSpace(r.body)) == 0 {
		return Object{}, err
	}
	o := Object{}
	if err := json.Unmarshal(r.body, &o); err != nil {
		return nil, fmt.Errorf("%s:%s answered what is no JSON object: %w", service, action, err)
	}
	return o, nil
}

// attempts bounds the tries of a call that failed in transit, was throttled, or met a server error.
const attempts = 5

func (a API) send(r request) (answer, error) {
	for n := 1; ; n++ {
		got, err := a.once(r)
		if err == nil || n == attempts || !passing(err) {
			return got, err
		}
		select {
		case <-a.Ctx.Done():
			return got, errors.Join(err, a.Ctx.Err())
		case <-time.After(time.Duration(n*n) * 100 * time.Millisecond):
		}
	}
}

func passing(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	return e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusTooManyRequests || strings.HasPrefix(e.Code, "Throttl")
}

func (a API) once(r request) (answer, error) {
	base := a.Endpoints.For(r.service)
	target := *base
	target.Path, target.RawQuery = strings.TrimSuffix(base.Path, "/")+r.path, r.query
	if p, err := url.PathUnescape(r.path); err == nil && p != r.path {
		target.Path, target.RawPath = p, r.path
	}
	q, err := http.NewRequestWithContext(a.Ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	for k, v := range r.header {
		q.Header.Set(k, v)
	}
	sum := sha256.Sum256(r.body)
	hash := hex.EncodeToString(sum[:])
	q.Header.Set("X-Amz-Content-Sha256", hash)
	keys, err := a.Credentials.Retrieve(a.Ctx)
	if err != nil {
		return answer{}, &Error{Service: r.service, Action: r.action, Code: "NoCredentials", Message: err.Error()}
	}
	plainPath := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = r.service == "s3" }
	if err := v4.NewSigner().SignHTTP(a.Ctx, keys, q, hash, r.service, a.signingRegion(r.service), time.Now(), plainPath); err != nil {
		return answer{}, err
	}
	resp, err := a.HTTP.Do(q)
	if err != nil {
		return answer{}, fmt.Errorf("%s:%s could not be sent: %w", r.service, r.action, err)
	}
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return answer{}, fmt.Errorf("%s:%s: the answer broke off: %w", r.service, r.action, err)
	}
	if resp.StatusCode >= 300 {
		return answer{}, newError(r.service, r.action, resp, body)
	}
	return answer{body: body, header: resp.Header}, nil
}

// signingRegion is us-east-1 for IAM, which is one service for all regions.
func (a API) signingRegion(service string) string {
	if service == "iam" {
		return "us-east-1"
	}
	return a.Region
}
