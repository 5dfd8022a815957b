package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Error is a refusal by the service. Its text always names the action, so that a missing permission can be read off it.
type Error struct {
	Service, Action, Code, Message, RequestID string
	Status                                    int
}

func (e *Error) Error() string {
	id := ""
	if e.RequestID != "" {
		id = ", RequestID: " + e.RequestID
	}
	return fmt.Sprintf("operation %s:%s, https response error StatusCode: %d%s, api error %s: %s", e.Service, e.Action, e.Status, id, e.Code, e.Message)
}

// Is tells whether err is an answer of the service with one of these codes (a code ending in * is a prefix).
func Is(err error, codes ...string) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if prefix, ok := strings.CutSuffix(code, "*"); e.Code == code || ok && strings.HasPrefix(e.Code, prefix) {
			return true
		}
	}
	return false
}

func newError(service, action string, resp *http.Response, body []byte) *Error {
	e := &Error{Service: service, Action: action, Status: resp.StatusCode, RequestID: resp.Header.Get("X-Amzn-Requestid")}
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get("X-Amz-Request-Id")
	}
	body = bytes.TrimSpace(body)
	if bytes.HasPrefix(body, []byte("{")) {
		var o map[string]any
		if json.Unmarshal(body, &o) == nil {
			e.Code, e.Message = first(o, "__type", "code", "Code"), first(o, "message", "Message")
		}
	} else if root, err := parseXML(bytes.NewReader(body)); err == nil {
		for _, at := range []*Node{root.At("Error"), root.At("Errors/Error"), root} {
			if code := at.S("Code"); code != "" {
				e.Code, e.Message = code, at.S("Message")
				break
			}
		}
	}
	if t := resp.Header.Get("X-Amzn-Errortype"); t != "" {
		e.Code, _, _ = strings.Cut(t, ":")
	}
	if i := strings.LastIndex(e.Code, "#"); i >= 0 {
		e.Code = e.Code[i+1:]
	}
	if e.Code == "" {
		e.Code = strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "")
	}
	if e.Message == "" && len(body) == 0 {
		// A HEAD request gets no reason, on AWS neither.
		e.Message = "no reason is given; " + service + ":" + action + " may be missing from the caller's policy, or denied by the resource's"
	} else if e.Message == "" {
		e.Message = string(body[:min(len(body), 300)])
	}
	return e
}

func first(o map[string]any, names ...string) string {
	for _, n := range names {
		if s, ok := o[n].(string); ok {
			return s
		}
	}
	return ""
}
