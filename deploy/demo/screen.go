package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen prints the demo for people.
type screen struct {
	w                       io.Writer
	bold, dim, green, reset string
	tick                    string
}

// newScreen colours only a terminal, and ticks only where the locale has ticks.
func newScreen(f *os.File, env func(string) string) *screen {
	s := &screen{w: f, tick: "[ok]"}
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && env("NO_COLOR") == "" && env("TERM") != "dumb" {
		s.bold, s.dim, s.green, s.reset = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"
	}
	locale := strings.ToLower(env("LC_ALL") + env("LC_CTYPE") + env("LANG"))
	if strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
		s.tick = "✓"
	}
	return s
}

const lineWidth = 100

func (s *screen) chapter(title string) {
	fmt.Fprintf(s.w, "\n%s== %s %s%s\n", s.bold, title, strings.Repeat("=", max(3, lineWidth-4-len(title))), s.reset)
}

func (s *screen) say(text string) {
	fmt.Fprintln(s.w)
	for line := range strings.Lines(text) {
		fmt.Fprintf(s.w, "%s# %s%s\n", s.dim, strings.TrimRight(line, "\n"), s.reset)
	}
}

func (s *screen) export(name, value string) {
	fmt.Fprintf(s.w, "  %s$ export %s=%s%s\n", s.bold, name, value, s.reset)
}

func (s *screen) command(line string) {
	fmt.Fprintf(s.w, "\n  %s$ %s%s\n", s.bold, line, s.reset)
}

func (s *screen) output(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(s.w, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

func (s *screen) ok(what string) {
	fmt.Fprintf(s.w, "  %s%s %s%s\n", s.green, s.tick, what, s.reset)
}
