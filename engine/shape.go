package engine

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// issuing is the role and the way of a request that issues, in the shape of the role's type. Where the role is not there, creds/
// issues all the same: to be told so.
func (e *Engine) issuing(r *gate.Request) (role broker.Role, ok bool) {
	dir, name, _ := strings.Cut(r.Rest, "/")
	if name == "" || strings.Contains(name, "/") {
		return role, false
	}
	role, _ = e.cfg.Catalog.Role(r.Mount.Path, name)
	w, ok := role.Shape.Way(dir)
	switch {
	case !ok:
		return role, false
	case r.Op == policy.Read:
		return role, w.Read
	case r.Op == policy.Create, r.Op == policy.Update:
		return role, w.Write
	}
	return role, false
}

// issueShaped issues a credential and answers it in the shape of its role.
func (e *Engine) issueShaped(ctx context.Context, c *call, shape broker.Shape) (*gate.Response, error) {
	if c.Op != policy.Read {
		f, err := c.fields()
		if err != nil {
			return nil, err
		}
		if names := slices.Sorted(maps.Keys(f.all)); len(names) > 0 {
			c.warnings = append(c.warnings, "Endpoint ignored these unrecognized parameters: ["+strings.Join(names, " ")+"]")
		}
	}
	asked := *c.Request
	asked.Op, asked.Rest = policy.Read, "creds/"+c.name // as the broker knows it
	c.Request = &asked
	resp, err := e.issue(ctx, c)
	if err != nil {
		return nil, err
	}
	dress(resp.Data, shape.Fields)
	return resp, nil
}

// dress names and types fields as a shape has them.
func dress(data map[string]any, fields []broker.Field) {
	worn := make(map[string]any, len(fields))
	for _, f := range fields {
		text, ok := data[f.Name].(string)
		if !ok {
			continue
		}
		delete(data, f.Name)
		name := f.As
		if name == "" {
			name = f.Name
		}
		worn[name] = typed(text, f.Kind)
	}
	maps.Copy(data, worn)
}

func typed(text string, kind broker.FieldKind) any {
	switch kind {
	case broker.Number:
		if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			return json.Number(text)
		}
	case broker.Lines:
		return split(text, "\n")
	case broker.Blocks:
		return blocks(text)
	}
	return text
}

// split is the parts of text that are not empty.
func split(text, by string) []string {
	out := []string{}
	for part := range strings.SplitSeq(text, by) {
		if part != "" {
			out = append(out, part)
		}
	}
	return out
}

// blocks is each PEM block in text, as Vault writes them: without a line feed at the end.
func blocks(text string) []string {
	const end = "-----END "
	out := []string{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		i := strings.Index(text, end)
		if i < 0 {
			return append(out, text)
		}
		n := len(text)
		if j := strings.IndexByte(text[i:], '\n'); j >= 0 {
			n = i + j
		}
		out = append(out, strings.TrimSpace(text[:n]))
		text = text[n:]
	}
	return out
}
