package differential_test

import (
	"fmt"
	"os"
	"strings"
)

// page is what docs/vault-compat.md says in its tables.
type page struct {
	endpoints   map[string]string   // how each is answered
	differences map[string][]string // the patterns of the fields that each is about
}

// answers lists the words for how an endpoint is answered.
var answers = []string{"same", "governed", "different", "refused"}

func readPage(file string) (*page, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := &page{endpoints: map[string]string{}, differences: map[string][]string{}}
	title := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if t, ok := strings.CutPrefix(line, "## "); ok {
			title = t
		}
		cells := cells(line)
		if len(cells) < 3 {
			continue
		}
		switch title {
		case "Endpoints", "Protocol":
			err = p.endpoint(cells)
		case "Differences":
			err = p.difference(cells)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", file, line, err)
		}
	}
	return p, nil
}

// cells parts a row of a table; the rule below its head and the head itself are none.
func cells(line string) []string {
	if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| endpoint |") || strings.HasPrefix(line, "| difference |") {
		return nil
	}
	out := strings.Split(strings.Trim(line, "|"), " | ")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}

func (p *page) endpoint(cells []string) error {
	name, answer := plain(cells[0]), cells[1]
	if _, twice := p.endpoints[name]; twice {
		return fmt.Errorf("%q stands there twice", name)
	}
	for _, a := range answers {
		if answer == a {
			p.endpoints[name] = answer
			return nil
		}
	}
	return fmt.Errorf("%q is no answer", answer)
}

func (p *page) difference(cells []string) error {
	name := plain(cells[0])
	if _, twice := p.differences[name]; twice {
		return fmt.Errorf("%q stands there twice", name)
	}
	for field := range strings.SplitSeq(plain(cells[1]), ", ") {
		p.differences[name] = append(p.differences[name], field)
	}
	return nil
}

// plain is a cell without its marks.
func plain(cell string) string { return strings.ReplaceAll(cell, "`", "") }
