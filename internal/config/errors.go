package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Error is one thing that is wrong at one place.
type Error struct {
	File      string
	Line, Col int
	Msg       string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// problems collects what is wrong, and the values that no message may show.
type problems struct {
	list   []error
	hidden []string
}

func (p *problems) err() error { return errors.Join(p.list...) }

func (p *problems) add(at hcl.Range, format string, args ...any) {
	p.list = append(p.list, &Error{File: at.Filename, Line: at.Start.Line, Col: at.Start.Column, Msg: p.scrub(fmt.Sprintf(format, args...))})
}

func (p *problems) addDiags(diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		var at hcl.Range
		if d.Subject != nil {
			at = *d.Subject
		}
		msg := strings.TrimSuffix(d.Summary, ".")
		if d.Detail != "" {
			msg += ": " + d.Detail
		}
		p.add(at, "%s", msg)
	}
}

// hide keeps a value out of every later message. A message can only repeat what an expression has already read.
func (p *problems) hide(value string) {
	const tooShortToTell = 4
	value = strings.TrimSpace(value)
	if len(value) >= tooShortToTell {
		p.hidden = append(p.hidden, value)
	}
}

func (p *problems) scrub(msg string) string {
	for _, v := range p.hidden {
		msg = strings.ReplaceAll(msg, v, "[redacted]")
		quoted := strconv.Quote(v)
		msg = strings.ReplaceAll(msg, quoted[1:len(quoted)-1], "[redacted]")
	}
	return msg
}
