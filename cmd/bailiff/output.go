package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// table is what people read.
type table struct {
	head []string // nil: none
	rows [][]string
	note string // below the rows
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// formatFlag gives a command --format.
func (a *app) formatFlag(cmd *cobra.Command, more ...string) {
	formats := append([]string{"table", "json", "yaml"}, more...)
	cmd.Flags().StringVar(&a.format, "format", "table", "how to print: "+strings.Join(formats, ", "))
	complete(cmd, "format", func(*cobra.Command, string) []string { return formats })
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(formats, a.format) {
			return usage(cmd, fmt.Sprintf("unknown format %q: it is one of %s", a.format, strings.Join(formats, ", ")))
		}
		return nil
	}
}

// print writes v as JSON or YAML, or the table that stands for it.
func (a *app) print(v any, t table) error {
	var b []byte
	var err error
	switch a.format {
	case "json":
		if b, err = indented(v); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	case "yaml":
		if b, err = yaml.Marshal(v); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	default:
		return a.printTable(t)
	}
	_, err = a.stdout.Write(b)
	return err
}

func indented(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return []byte(b.String()), err
}

func (a *app) printTable(t table) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	rows := t.rows
	if t.head != nil {
		rows = append([][]string{t.head}, rows...)
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = plain(c)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t.note != "" {
		_, err := fmt.Fprintln(a.stdout, plain(t.note))
		return err
	}
	return nil
}

// plain makes what others wrote fit for a terminal: what isn't printable is shown as its escape.
func plain(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// when writes a time for a table; "-" where there is none.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// or is s, or another text where s is empty.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
