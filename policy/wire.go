package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/url"
	"strings"
)

// Why BodyParams finds no parameters: as Vault words it.
var (
	ErrJSON = errors.New("error parsing JSON")
	ErrForm = errors.New("error parsing form data")
)

// QueryParams are the parameters of a read.
func QueryParams(query url.Values) map[string]any {
	out := make(map[string]any, len(query))
	for name, values := range query {
		switch {
		case name == "help", len(values) == 0:
		case len(values) == 1:
			out[name] = values[0]
		default:
			out[name] = values // which equals no value in a policy
		}
	}
	return out
}

// BodyParams reads the parameters of a write, as Vault does: from the first JSON object of the body, or from a form where
// the body is said to be one and doesn't begin as JSON does. It is ErrJSON or ErrForm where that can't be done.
func BodyParams(contentType string, body []byte) (map[string]any, error) {
	if isForm(contentType, body) {
		return formParams(body)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return nil, ErrJSON
	}
	return out, nil
}

func isForm(contentType string, body []byte) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return false
	}
	body = bytes.TrimLeft(body[:min(len(body), 512)], " \t\r\n")
	return len(body) == 0 || body[0] != '{' && body[0] != '['
}

func formParams(body []byte) (map[string]any, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, ErrForm
	}
	out := make(map[string]any, len(values))
	for name, v := range values {
		out[name] = strings.Join(v, ",")
	}
	return out, nil
}
