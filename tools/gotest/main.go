// Command gotest runs "go test" with its arguments, prints what go test would print, and fails if a test was skipped:
// a skipped test is one that nobody misses.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stdout, "FAIL:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	skipped, err := report(events, stdout)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	if len(skipped) > 0 {
		return fmt.Errorf("%d skipped: %s", len(skipped), strings.Join(skipped, ", "))
	}
	return nil
}

// event is a line that go test -json writes; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // in place of Package when a build writes
	Test       string
	Output     string
}

// report prints the events as go test without -v would and returns the tests that were skipped.
func report(events io.Reader, stdout io.Writer) (skipped []string, err error) {
	lines := bufio.NewReader(events)
	outputs := map[string]*strings.Builder{} // by package and test, until the test ends
	for {
		line, readErr := lines.ReadBytes('\n')
		if len(line) > 0 {
			var ev event
			if err := json.Unmarshal(line, &ev); err != nil { // go test also writes plain lines
				ev = event{Action: "build-output", Output: string(line)}
			}
			name, err := ev.print(outputs, stdout)
			if err != nil {
				return skipped, err
			}
			if name != "" {
				skipped = append(skipped, name)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return skipped, nil
		}
		if readErr != nil {
			return skipped, readErr
		}
	}
}

// print prints what the event gives to print, and returns the test's name if it says that the test was skipped.
func (ev event) print(outputs map[string]*strings.Builder, stdout io.Writer) (skipped string, err error) {
	key := ev.Package + " " + ev.Test
	out, ok := outputs[key]
	if !ok {
		out = &strings.Builder{}
		outputs[key] = out
	}
	switch {
	case ev.Action == "build-output", ev.Action == "output" && ev.Test == "" && ev.Output != "PASS\n":
		_, err = io.WriteString(stdout, ev.Output)
	case ev.Action == "output":
		out.WriteString(ev.Output)
	case ev.Test == "":
	case ev.Action == "fail":
		_, err = io.WriteString(stdout, withoutProgress(out.String()))
		delete(outputs, key)
	case ev.Action == "skip":
		_, err = io.WriteString(stdout, withoutProgress(out.String()))
		delete(outputs, key)
		return ev.Package + "." + ev.Test, err
	case ev.Action == "pass":
		delete(outputs, key)
	}
	return "", err
}

// withoutProgress drops the lines that only go test -v shows.
func withoutProgress(s string) string {
	var kept strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "=== ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
