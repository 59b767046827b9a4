package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

// maxFile is the longest file that is read, in bytes.
const maxFile = 1 << 20

// attr takes the value of one key. Its error says what is wrong without repeating the value.
type attr func(v value) error

// value is what a key was given, and which env() and file() calls it came from.
type value struct {
	cty.Value
	origins []origin
	at      hcl.Range
}

// block says what may stand in a pair of braces.
type block struct {
	attrs  map[string]attr
	blocks map[string]inner
}

// inner is a block in a block.
type inner struct {
	label string // what its label is called; empty where it has none
	many  bool
	read  func(b *hcl.Block)
}

// reader reads one file.
type reader struct {
	*problems
	ctx *hcl.EvalContext
}

// parse reads a file's syntax; nil after a problem.
func (r *reader) parse(src []byte, name string) hcl.Body {
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	r.addDiags(diags)
	if diags.HasErrors() || f == nil {
		return nil
	}
	return f.Body
}

// read reads one block's content and returns where each of its keys stands.
func (r *reader) read(body hcl.Body, want block) map[string]hcl.Range {
	content, diags := body.Content(want.schema())
	r.addDiags(diags)
	where := map[string]hcl.Range{}
	if content == nil {
		return where
	}
	for _, name := range slices.Sorted(maps.Keys(content.Attributes)) {
		a := content.Attributes[name]
		where[name] = a.Range
		v, diags := a.Expr.Value(r.ctx)
		r.addDiags(diags)
		if diags.HasErrors() {
			continue
		}
		plain, marks := v.UnmarkDeep()
		if plain.IsNull() || !plain.IsWhollyKnown() {
			r.add(a.Range, "%s: it has no value: leave it out", name)
			continue
		}
		if err := want.attrs[name](value{Value: plain, origins: origins(marks), at: a.Range}); err != nil {
			r.add(a.Range, "%s: %v", name, err)
		}
	}
	first := map[string]hcl.Range{}
	for _, b := range content.Blocks {
		kind := want.blocks[b.Type]
		if at, twice := first[b.Type]; twice && !kind.many {
			r.add(b.DefRange, "%s is there twice: the first is at %s:%d", b.Type, at.Filename, at.Start.Line)
			continue
		}
		first[b.Type] = b.DefRange
		kind.read(b)
	}
	return where
}

// section is a block without a label that may stand once.
func (r *reader) section(attrs map[string]attr) inner {
	return inner{read: func(b *hcl.Block) { r.read(b.Body, block{attrs: attrs}) }}
}

func (b block) schema() *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, name := range slices.Sorted(maps.Keys(b.attrs)) {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(b.blocks)) {
		h := hcl.BlockHeaderSchema{Type: name}
		if label := b.blocks[name].label; label != "" {
			h.LabelNames = []string{label}
		}
		s.Blocks = append(s.Blocks, h)
	}
	return s
}

func text(to *string) attr {
	return func(v value) error {
		if v.Type() != cty.String {
			return errors.New("write a string in quotes")
		}
		*to = v.AsString()
		return nil
	}
}

func truth(to *bool) attr {
	return func(v value) error {
		if v.Type() != cty.Bool {
			return errors.New("write true or false, without quotes")
		}
		*to = v.True()
		return nil
	}
}

func whole(to *int) attr {
	return func(v value) error {
		n, ok := integer(v.Value)
		if !ok {
			return errors.New("write a whole number")
		}
		*to = int(n)
		return nil
	}
}

func integer(v cty.Value) (int64, bool) {
	if v.Type() != cty.Number {
		return 0, false
	}
	n, accuracy := v.AsBigFloat().Int64()
	return n, accuracy == big.Exact && n <= math.MaxInt
}

func duration(to *time.Duration) attr {
	return func(v value) error {
		var d object.Duration
		err := durationWords(&d)(v)
		if err == nil {
			*to = time.Duration(d)
		}
		return err
	}
}

func durationWords(to *object.Duration) attr {
	return func(v value) error {
		if n, ok := integer(v.Value); ok && n >= 0 && n <= int64(math.MaxInt64/time.Second) {
			*to = object.Duration(time.Duration(n) * time.Second)
			return nil
		}
		if v.Type() != cty.String {
			return errors.New(`write a duration in words, as "90s" or "1h30m"`)
		}
		return to.UnmarshalText([]byte(v.AsString()))
	}
}

func size(to *int64) attr {
	return func(v value) error {
		if n, ok := integer(v.Value); ok && n >= 0 {
			*to = n
			return nil
		}
		if v.Type() == cty.String {
			if n, ok := parseSize(v.AsString()); ok {
				*to = n
				return nil
			}
		}
		return errors.New(`write a size in words, as "32MiB" or "64KiB", or a number of bytes`)
	}
}

// smallSize is a size that fits an int of 32 bits.
func smallSize(to *int) attr {
	return func(v value) error {
		var n int64
		if err := size(&n)(v); err != nil {
			return err
		}
		if n > math.MaxInt32 {
			return errors.New("it is too large")
		}
		*to = int(n)
		return nil
	}
}

func texts(to *[]string) attr {
	return func(v value) error {
		if !v.Type().IsTupleType() && !v.Type().IsListType() {
			return errors.New(`write a list of strings, as ["a", "b"]`)
		}
		out := make([]string, 0, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			if e.IsNull() || e.Type() != cty.String {
				return fmt.Errorf("its element %d is no string", len(out)+1)
			}
			out = append(out, e.AsString())
		}
		*to = out
		return nil
	}
}

// listMap takes { key = ["value", …] }, and one value for a list of it.
func listMap(to *map[string][]string) attr {
	return func(v value) error {
		if !v.Type().IsObjectType() && !v.Type().IsMapType() {
			return errors.New(`write { key = ["value"] }`)
		}
		out := map[string][]string{}
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			var list []string
			if !e.IsNull() && e.Type() == cty.String {
				list = []string{e.AsString()}
			} else if err := texts(&list)(value{Value: e}); err != nil {
				return fmt.Errorf("the values of %s: %w", k.AsString(), err)
			}
			out[k.AsString()] = list
		}
		*to = out
		return nil
	}
}

func textMap(to *map[string]string) attr {
	return func(v value) error {
		if !v.Type().IsObjectType() && !v.Type().IsMapType() {
			return errors.New(`write { key = "value" }`)
		}
		out := map[string]string{}
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			if e.IsNull() || e.Type() != cty.String {
				return fmt.Errorf("the value of %s is no string", k.AsString())
			}
			out[k.AsString()] = e.AsString()
		}
		*to = out
		return nil
	}
}
