package differential_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A step is one line of a script with what belongs to it.
type step struct {
	place   string // file and line
	section string
	caller  string // the variable with the token
	method  string // CLI for a run of the vault command
	path    string
	body    string
	args    []string // of a command
	extra   []string // headers, or variables of the environment
	stdin   string
	keep    [][2]string // variable, field
	allowed []string    // differences
}

func (s *step) String() string {
	if s.method == "CLI" {
		return "vault " + strings.Join(s.args, " ")
	}
	if s.method == "RAW" {
		return "RAW " + s.body
	}
	return s.method + " " + s.path
}

// readScript reads a script's steps.
func readScript(file string) ([]*step, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var steps []*step
	section, caller := "", "root"
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " ")
		place := fmt.Sprintf("%s:%d", file, n)
		name, isSection := strings.CutPrefix(line, "== ")
		who, isCaller := strings.CutPrefix(line, "caller ")
		switch {
		case line == "" || line[0] == '#':
		case isSection:
			section = name
		case isCaller:
			caller = who
		case strings.HasPrefix(line, "  "):
			if len(steps) == 0 {
				return nil, fmt.Errorf("%s: nothing stands above it", place)
			}
			if err := steps[len(steps)-1].add(strings.TrimLeft(line, " ")); err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
		default:
			s, err := newStep(line, caller)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
			s.place, s.section = place, section
			steps = append(steps, s)
		}
	}
	return steps, lines.Err()
}

func newStep(line, caller string) (*step, error) {
	s := &step{caller: caller}
	if who, rest, ok := strings.Cut(line, " "); ok && who[0] == '@' {
		s.caller, line = who[1:], rest
	}
	var rest string
	s.method, rest, _ = strings.Cut(line, " ")
	if s.method == "$" {
		s.method = "CLI"
		var err error
		s.args, err = words(rest)
		return s, err
	}
	if strings.ToUpper(s.method) != s.method {
		return nil, fmt.Errorf("%q is no method", s.method)
	}
	if s.method == "RAW" {
		s.body = rest
		return s, nil
	}
	s.path, s.body, _ = strings.Cut(rest, " ")
	return s, nil
}

// add reads an indented line.
func (s *step) add(line string) error {
	if len(line) < 3 || line[1] != ' ' {
		return fmt.Errorf("%q says nothing about the line above", line)
	}
	rest := line[2:]
	switch line[0] {
	case '+':
		s.extra = append(s.extra, rest)
	case '<':
		s.stdin += rest + "\n"
	case '>':
		name, field, ok := strings.Cut(rest, " = ")
		if !ok {
			return fmt.Errorf("%q keeps nothing", rest)
		}
		s.keep = append(s.keep, [2]string{name, field})
	case '!':
		s.allowed = append(s.allowed, strings.Fields(rest)...)
	default:
		return fmt.Errorf("%q says nothing about the line above", line)
	}
	return nil
}

// words parts a command line at its spaces, but for those between single quotes.
func words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	quoted, some := false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, some = !quoted, true
		case c == ' ' && !quoted:
			if some {
				out = append(out, word.String())
			}
			word.Reset()
			some = false
		default:
			word.WriteRune(c)
			some = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if some {
		out = append(out, word.String())
	}
	return out, nil
}
