package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// origin is one env() or file() call. It marks every value that was made with its result, so that a value which is a secret
// in one place is not written in the clear in another.
type origin struct{ fn, name string }

func (o origin) String() string { return fmt.Sprintf("%s(%q)", o.fn, o.name) }

func (o origin) compare(p origin) int {
	return cmp.Or(cmp.Compare(o.fn, p.fn), cmp.Compare(o.name, p.name))
}

func origins(marks cty.ValueMarks) []origin {
	var out []origin
	for m := range marks {
		if o, ok := m.(origin); ok {
			out = append(out, o)
		}
	}
	return out
}

// outside is what an expression may read: the environment, and files.
type outside struct {
	env  func(string) (string, bool)
	hide func(string)
	read map[string]bool // the files that were read, by their clean paths
}

// context makes the functions as they are in a file of dir.
func (o *outside) context(dir string) *hcl.EvalContext {
	return &hcl.EvalContext{Functions: map[string]function.Function{
		"env":  textFunction("name", func(name string) (cty.Value, error) { return o.variable(name) }),
		"file": textFunction("path", func(path string) (cty.Value, error) { return o.file(dir, path) }),
	}}
}

func textFunction(param string, call func(string) (cty.Value, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return call(args[0].AsString())
		},
	})
}

func (o *outside) variable(name string) (cty.Value, error) {
	v, ok := o.env(name)
	if !ok {
		return cty.NilVal, fmt.Errorf("the environment variable %s is not set", name)
	}
	o.hide(v)
	return cty.StringVal(v).Mark(origin{"env", name}), nil
}

func (o *outside) file(dir, path string) (cty.Value, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path = filepath.Clean(path)
	text, err := readFile(path)
	if err != nil {
		return cty.NilVal, err
	}
	o.read[path] = true
	o.hide(string(text))
	return cty.StringVal(string(text)).Mark(origin{"file", path}), nil
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is longer than 1 MiB", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, reason(path, err)
	}
	return text, nil
}

func reason(path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("read %s: %w", path, err)
}
