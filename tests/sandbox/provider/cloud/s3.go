package cloud

import (
	"bytes"
	"crypto/md5" //nolint:gosec // Content-MD5 is what S3 asks for, not a protection
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"strings"
)

// S3 calls an operation on a bucket, by path style. The action is the IAM name of the call.
func (a API) S3(action, method, bucket, query string, body []byte, header map[string]string) (*Node, error) {
	all := map[string]string{}
	for k, v := range header {
		all[k] = v
	}
	if len(body) > 0 {
		sum := md5.Sum(body) //nolint:gosec // see above
		all["Content-MD5"] = base64.StdEncoding.EncodeToString(sum[:])
		if _, given := all["Content-Type"]; !given {
			all["Content-Type"] = "application/xml"
		}
	}
	raw, err := a.send(request{service: "s3", action: action, method: method, path: "/" + bucket, query: query, body: body, header: all})
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw.body)) == 0 || strings.HasPrefix(raw.header.Get("Content-Type"), "application/json") || method == http.MethodHead {
		return &Node{Body: string(raw.body)}, nil
	}
	return parseXML(bytes.NewReader(raw.body))
}

// El is an XML element to send: El("Rule", El("ID", "a")). Nil parts are left out.
func El(name string, parts ...any) string {
	var b strings.Builder
	b.WriteString("<" + name + ">")
	for _, p := range parts {
		switch p := p.(type) {
		case nil:
		case string:
			b.WriteString(p)
		case []string:
			b.WriteString(strings.Join(p, ""))
		}
	}
	b.WriteString("</" + name + ">")
	return b.String()
}

// Text escapes a text for XML.
func Text(s string) string {
	var b bytes.Buffer
	// Writing to a buffer cannot fail.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// Leaf is an element with text, or nothing when the text is empty.
func Leaf(name, text string) string {
	if text == "" {
		return ""
	}
	return El(name, Text(text))
}

// S3Text reads a document of a bucket that is no XML, as policies are.
func (a API) S3Text(action, bucket, query string) (string, error) {
	raw, err := a.send(request{service: "s3", action: action, method: http.MethodGet, path: "/" + bucket, query: query})
	return string(raw.body), err
}
