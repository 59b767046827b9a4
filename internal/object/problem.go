package object

import "strings"

// Problem is one thing that is wrong with one object. It never holds a secret value.
type Problem struct {
	Kind  Kind
	Name  string
	Field string // as it is called in JSON and HCL ("auth.method"); empty where the object as a whole is meant
	Msg   string // what is wrong
	Hint  string // what to do about it; may be empty
}

// Error says where, what and how to put it right, in one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(string(p.Kind))
	b.WriteString(` "`)
	b.WriteString(p.Name)
	b.WriteString(`": `)
	if p.Field != "" {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.Text())
	return b.String()
}

// Text is Error without the place.
func (p *Problem) Text() string {
	if p.Hint == "" {
		return p.Msg
	}
	return p.Msg + ": " + p.Hint
}
