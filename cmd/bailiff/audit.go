package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "Ask the audit trail, and check it", a.auditWhoHad(), a.auditPrincipal(), a.auditIdentity(), a.auditDenied(), a.auditQuery(), a.auditVerify(), a.auditKey(), a.auditCheckpoint(), a.auditProve())
}

func (a *app) auditQuery() *cobra.Command {
	f := filter{}
	var limit int
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Ask who had what, when and from where",
		Long: `Ask who had what, when and from where. The newest record comes first.

The table leaves out that a request was begun where it also shows how it ended, and what changed a target
has two records in the other formats.`,
		Example: `  bailiff audit query --path secret/data/myapp/db-password --since 90d
  bailiff audit query --path 'secret/*' --status denied --format csv
  bailiff audit query --principal bl-readonly-k3v7c2q5xw6m4n1p --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			records, err := allRecords(cmd.Context(), c, f.query(), limit)
			if err != nil {
				return err
			}
			if a.format == "csv" {
				return a.printCSV(records)
			}
			return a.print(records, recordsTable(records))
		},
	}
	f.flag(cmd, "path", "only this path; with a * at the end every path that begins so")
	f.flag(cmd, "identity", "only by this identity")
	f.flag(cmd, "op", "create, read, update, patch, delete, list")
	f.flag(cmd, "status", "ok, denied, refused, error, begun")
	f.flag(cmd, "via", "hvp, usc, api, system")
	f.flag(cmd, "lease", "only about this lease")
	f.flag(cmd, "principal", "only about this name on a target")
	f.flagAs(cmd, "request-id", "request_id", "only of this request")
	f.flag(cmd, "since", "not before: 90d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	f.flag(cmd, "until", "before: the same")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many records")
	complete(cmd, "identity", a.objectNames(object.KindIdentity))
	complete(cmd, "op", words("create", "read", "update", "patch", "delete", "list"))
	complete(cmd, "status", words("ok", "denied", "refused", "error", "begun"))
	complete(cmd, "via", words("hvp", "usc", "api", "system"))
	a.formatFlag(cmd, "csv")
	return cmd
}

// allRecords asks page by page.
func allRecords(ctx context.Context, c *api.Client, q url.Values, limit int) ([]audit.Record, error) {
	all := []audit.Record{}
	for len(all) < limit {
		q.Set("limit", strconv.Itoa(min(limit-len(all), 1000)))
		page, err := c.Audit(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Records...)
		if page.Next == 0 || len(page.Records) == 0 {
			break
		}
		q.Set("before", strconv.FormatUint(page.Next, 10))
	}
	return all, nil
}

func recordsTable(records []audit.Record) table {
	t := table{head: []string{"TIME", "STATUS", "VIA", "IDENTITY", "OP", "PATH", "FROM", "RULE", "DETAIL"}}
	ended := map[string]bool{}
	for _, r := range records {
		key := r.RequestID + "\x00" + r.Op + "\x00" + r.Path
		if r.Stage == audit.StageRequest && ended[key] {
			continue
		}
		ended[key] = ended[key] || r.Stage == audit.StageResponse
		t.add(r.Time.UTC().Format(time.RFC3339), string(r.Status), or(r.Via, "-"), or(r.Identity, or(r.AccessID, "-")),
			or(r.Op, "-"), or(r.Path, "-"), or(r.ClientAddr, "-"), or(ruleOf(r), "-"), detailOf(r))
	}
	return t
}

func ruleOf(r audit.Record) string {
	if r.Rule == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", r.Rule.Policy, r.Rule.Line)
}

func detailOf(r audit.Record) string {
	var parts []string
	for _, s := range []string{r.Detail, r.Error, r.Principal, r.LeaseID} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "; ")
}

// printCSV writes every field a column. A cell that a spreadsheet would read as a formula is written behind an apostrophe.
func (a *app) printCSV(records []audit.Record) error {
	w := csv.NewWriter(a.stdout)
	rows := [][]string{{"seq", "time", "stage", "status", "via", "identity", "access_id", "key_id", "client_addr", "user_agent",
		"op", "path", "mount", "target", "rule_policy", "rule_version", "rule_line", "rule_pattern", "code", "error", "micros",
		"lease_id", "principal", "detail", "request_id", "node"}}
	for _, r := range records {
		rule := [4]string{}
		if r.Rule != nil {
			rule = [4]string{r.Rule.Policy, strconv.FormatInt(r.Rule.Version, 10), strconv.Itoa(r.Rule.Line), r.Rule.Pattern}
		}
		rows = append(rows, []string{strconv.FormatUint(r.Seq, 10), r.Time.UTC().Format(time.RFC3339Nano), string(r.Stage), string(r.Status),
			r.Via, r.Identity, r.AccessID, r.KeyID, r.ClientAddr, r.UserAgent, r.Op, r.Path, r.Mount, r.Target,
			rule[0], rule[1], rule[2], rule[3], strconv.Itoa(r.Code), r.Error, strconv.FormatInt(r.Micros, 10),
			r.LeaseID, r.Principal, r.Detail, r.RequestID, r.Node})
	}
	for _, row := range rows {
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				row[i] = "'" + cell
			}
		}
	}
	return w.WriteAll(rows)
}
