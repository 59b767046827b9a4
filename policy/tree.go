package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	"github.com/hashicorp/hcl/hcl/token"
)

// node is a value of either syntax.
type node struct {
	kind   nodeKind
	line   int     // where it begins; 0 in JSON
	text   string  // of a stringNode, and of a numberNode as it is written
	truth  bool    // of a boolNode
	list   []node  // of a listNode
	fields []field // of an objectNode, in the order of the text, with duplicates
}

type nodeKind uint8

const (
	nullNode nodeKind = iota
	stringNode
	numberNode
	boolNode
	listNode
	objectNode
)

// maxDepth is how deeply braces and brackets may be nested.
const maxDepth = 32

// field is a key and its value. In HCL a block's labels are keys of objects inside one another.
type field struct {
	key  string
	line int
	val  node
}

// each is the elements of a list that isn't empty, or n itself.
func (n node) each() []node {
	if n.kind == listNode && len(n.list) > 0 {
		return n.list
	}
	return []node{n}
}

// readTree reads a text whose syntax its first character tells, as HCL 1 does.
func readTree(text string) ([]field, *ParseError) {
	if strings.HasPrefix(strings.TrimLeftFunc(text, unicode.IsSpace), "{") {
		return readJSON(text)
	}
	return readHCL(text)
}

func readHCL(text string) ([]field, *ParseError) {
	if err := checkDepth(text); err != nil {
		return nil, err
	}
	// Keys that are given twice are found later, with their line.
	file, err := parser.ParseDontErrorOnDuplicateKeys([]byte(text))
	if err != nil {
		var at *parser.PosError
		if errors.As(err, &at) {
			return nil, wrong(at.Pos.Line, "%v", at.Err).as("%v", at)
		}
		return nil, wrong(0, "%v", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, wrong(0, "it holds no blocks")
	}
	return hclFields(list)
}

// checkDepth refuses what is nested deeper than any policy, for which the parser takes time in the square of its depth.
func checkDepth(text string) *ParseError {
	sc := scanner.New([]byte(text))
	sc.Error = func(token.Pos, string) {} // the parser reports it
	for depth := 0; ; {
		tok := sc.Scan()
		switch tok.Type {
		case token.EOF:
			return nil
		case token.LBRACE, token.LBRACK:
			depth++
		case token.RBRACE, token.RBRACK:
			depth = max(depth-1, 0)
		}
		if depth > maxDepth {
			return wrong(tok.Pos.Line, "it is nested too deeply")
		}
	}
}

func hclFields(list *ast.ObjectList) ([]field, *ParseError) {
	fields := make([]field, 0, len(list.Items))
	for _, item := range list.Items {
		val, err := hclNode(item.Val)
		if err != nil {
			return nil, err
		}
		for i := len(item.Keys) - 1; i >= 0; i-- {
			tok := item.Keys[i].Token
			key, ok := hclText(tok)
			if !ok {
				return nil, wrong(tok.Pos.Line, "the key %s is not a valid string", tok.Text)
			}
			f := field{key: key, line: tok.Pos.Line, val: val}
			if i == 0 {
				fields = append(fields, f)
			}
			val = node{kind: objectNode, fields: []field{f}}
		}
	}
	return fields, nil
}

func hclNode(n ast.Node) (node, *ParseError) {
	switch n := n.(type) {
	case *ast.ObjectType:
		fields, err := hclFields(n.List)
		return node{kind: objectNode, line: n.Pos().Line, fields: fields}, err
	case *ast.ListType:
		out := node{kind: listNode, line: n.Pos().Line}
		for _, e := range n.List {
			val, err := hclNode(e)
			if err != nil {
				return node{}, err
			}
			out.list = append(out.list, val)
		}
		return out, nil
	case *ast.LiteralType:
		return hclLiteral(n.Token)
	}
	return node{}, nil
}

func hclLiteral(tok token.Token) (node, *ParseError) {
	n := node{line: tok.Pos.Line}
	switch tok.Type {
	case token.NUMBER, token.FLOAT:
		n.kind, n.text = numberNode, tok.Text
	case token.BOOL:
		n.kind, n.truth = boolNode, tok.Text == "true"
	case token.STRING:
		text, ok := hclText(tok)
		if !ok {
			return node{}, wrong(tok.Pos.Line, "%s is not a valid string", tok.Text)
		}
		n.kind, n.text = stringNode, text
	case token.HEREDOC:
		text, ok := tok.Value().(string)
		if !ok {
			return node{}, wrong(tok.Pos.Line, "it is not a valid string")
		}
		n.kind, n.text = stringNode, text
	}
	return n, nil
}

// hclText is the text of a key or string. token.Value would panic where the quoting is wrong.
func hclText(tok token.Token) (string, bool) {
	if tok.Type == token.IDENT {
		return tok.Text, true
	}
	s, err := hclstrconv.Unquote(tok.Text)
	return s, err == nil
}

// readJSON reads an object. HCL's own JSON parser knows no lines, drops what it doesn't expect, and takes half a text.
func readJSON(text string) ([]field, *ParseError) {
	var whole json.RawMessage
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		var at *json.SyntaxError
		if errors.As(err, &at) {
			return nil, wrong(1+strings.Count(text[:min(int(at.Offset), len(text))], "\n"), "%v", err)
		}
		return nil, wrong(0, "%v", err)
	}
	r := jsonReader{text: text, dec: json.NewDecoder(bytes.NewReader(whole)), line: 1}
	r.dec.UseNumber()
	r.seen = strings.Index(text, "{")
	r.line += strings.Count(text[:r.seen], "\n")
	r.shift = r.seen
	top, err := r.value()
	if err != nil {
		return nil, wrong(r.line, "%v", err)
	}
	return top.fields, nil
}

// jsonReader builds a tree from a text that is known to be valid.
type jsonReader struct {
	text  string
	dec   *json.Decoder
	shift int // where in text the decoder's input begins
	seen  int // how much of text line counts
	line  int // of the last token
}

func (r *jsonReader) token() (json.Token, error) {
	tok, err := r.dec.Token()
	if end := r.shift + int(r.dec.InputOffset()); end > r.seen && end <= len(r.text) {
		r.line += strings.Count(r.text[r.seen:end], "\n")
		r.seen = end
	}
	return tok, err
}

func (r *jsonReader) value() (node, error) {
	tok, err := r.token()
	if err != nil {
		return node{}, err
	}
	switch tok {
	case json.Delim('{'):
		return r.object()
	case json.Delim('['):
		return r.list()
	}
	switch v := tok.(type) {
	case string:
		return node{kind: stringNode, text: v}, nil
	case bool:
		return node{kind: boolNode, truth: v}, nil
	case json.Number:
		return node{kind: numberNode, text: v.String()}, nil
	}
	return node{}, nil
}

func (r *jsonReader) object() (node, error) {
	n := node{kind: objectNode}
	for r.dec.More() {
		tok, err := r.token()
		if err != nil {
			return node{}, err
		}
		f := field{line: r.line}
		f.key, _ = tok.(string) // a key is always a string
		if f.val, err = r.value(); err != nil {
			return node{}, err
		}
		n.fields = append(n.fields, f)
	}
	_, err := r.token()
	return n, err
}

func (r *jsonReader) list() (node, error) {
	n := node{kind: listNode}
	for r.dec.More() {
		val, err := r.value()
		if err != nil {
			return node{}, err
		}
		n.list = append(n.list, val)
	}
	_, err := r.token()
	return n, err
}
