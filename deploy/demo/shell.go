package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// shell is one person's terminal: who it is and what is exported in it.
type shell struct {
	who  string
	vars []string // NAME=value
}

// token is what the shell's owner calls Bailiff with.
func (s *shell) token() string {
	for _, v := range s.vars {
		if name, value := cut(v); strings.HasSuffix(name, "_TOKEN") {
			return value
		}
	}
	return ""
}

// last is the value that a variable was given last.
func (s *shell) last(name string) string {
	value := ""
	for _, v := range s.vars {
		if n, given := cut(v); n == name {
			value = given
		}
	}
	return value
}

// result is what a command did.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) text() string { return r.stdout + r.stderr }

// row returns the second column of the row that begins with name.
func (r result) row(name string) string {
	for line := range strings.Lines(r.stdout) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return f[1]
		}
	}
	return ""
}

// check says what is wrong with a result, or nil.
type check func(result) error

// fine wants status 0 and every one of the texts in the output.
func fine(texts ...string) check { return ends(0, texts...) }

// ends wants a status and every one of the texts in the output.
func ends(code int, texts ...string) check {
	return func(r result) error {
		if r.code != code {
			return fmt.Errorf("it ended with status %d, want %d", r.code, code)
		}
		for _, text := range texts {
			if !strings.Contains(r.text(), text) {
				return fmt.Errorf("its output has no %q", text)
			}
		}
		return nil
	}
}

// without wants none of the texts in the output.
func without(texts ...string) check {
	return func(r result) error {
		for _, text := range texts {
			if strings.Contains(r.text(), text) {
				return fmt.Errorf("its output has %q", text)
			}
		}
		return nil
	}
}

// same wants the output of an earlier command.
func same(earlier result) check {
	return func(r result) error {
		if r != earlier {
			return fmt.Errorf("its output differs from the earlier one:\n%s", earlier.text())
		}
		return nil
	}
}

// commandTime bounds one command.
const commandTime = 30 * time.Second

// exec runs a command line as the shell's owner would. Its words are parted by spaces; single quotes keep them together.
func (d *demo) exec(s *shell, line string) (result, error) {
	args, err := words(line)
	if err != nil {
		return result{}, err
	}
	program, ok := d.programs[args[0]]
	if !ok {
		if program, err = exec.LookPath(args[0]); err != nil {
			return result{}, err
		}
	}
	ctx, cancel := context.WithTimeout(d.ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Dir = d.env.Root()
	cmd.Env = append([]string{"PATH=" + filepath.Dir(program) + ":/usr/bin:/bin", "HOME=" + d.home, "LANG=C"}, s.vars...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return result{}, errors.Join(err, ctx.Err())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

func words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	inWord, quoted := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, inWord = !quoted, true
		case r == ' ' && !quoted:
			if inWord {
				out = append(out, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted || !inWord && len(out) == 0 {
		return nil, fmt.Errorf("no command line: %q", line)
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}
