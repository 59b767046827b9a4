package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/merkle"
)

// against is what a trail on disk is compared with.
type against struct {
	dir, head, key string
	checkpoints    []string
}

func (a *app) auditVerify() *cobra.Command {
	var f against
	cmd := &cobra.Command{
		Use:   "verify --dir DIR",
		Short: "Check a trail on disk: nothing changed, nothing missing",
		Long: `Check a trail on disk, without a server and without changing anything. It says what it proved, what it could not,
and the first thing that is wrong.

With --key, which "bailiff audit key" prints, it also checks the signatures that the server made for the trail. Whoever holds
the server could still set the whole trail back to an older state of itself: keep what "bailiff audit checkpoint" prints
elsewhere, from time to time, and give it with --checkpoint (or a head that was printed here with --head).
Exit status 0: sound; 1: not sound, or it can't be read.`,
		Example: `  bailiff audit verify --dir /var/lib/bailiff/audit --key trail.pub
  bailiff audit verify --dir /var/lib/bailiff/audit --key trail.pub --checkpoint monday.txt --checkpoint friday.txt
  bailiff audit verify --dir /var/lib/bailiff/audit --head 1042:9f2c…`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			report, err := f.verify()
			if err != nil {
				return err
			}
			if err := a.print(report, reportTable(report)); err != nil {
				return err
			}
			if !report.OK() {
				return fmt.Errorf("the trail in %s is not sound: %s", f.dir, report.Problem)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "the trail's directory (required)")
	cmd.Flags().StringVar(&f.head, "head", "", "a head that was noted before, as it was printed")
	cmd.Flags().StringVar(&f.key, "key", "", "a file with the trail's public key")
	cmd.Flags().StringArrayVar(&f.checkpoints, "checkpoint", nil, "a file with a checkpoint that was kept elsewhere; may be given several times")
	require(cmd, "dir")
	a.formatFlag(cmd)
	return cmd
}

func (f *against) verify() (audit.Report, error) {
	var known *audit.Head
	if f.head != "" {
		h, err := audit.ParseHead(f.head)
		if err != nil {
			return audit.Report{}, fmt.Errorf("--head: %w", err)
		}
		known = &h
	}
	if f.key == "" {
		if len(f.checkpoints) > 0 {
			return audit.Report{}, hinted("\"bailiff audit key\" prints it: give the file with --key", "a checkpoint can't be checked without the trail's public key")
		}
		return audit.VerifyWith(f.dir, audit.Options{Known: known})
	}
	key, err := readKey(f.key)
	if err != nil {
		return audit.Report{}, err
	}
	cfg := merkle.VerifyConfig{Dir: f.dir, Tree: filepath.Join(f.dir, "tree"), Key: key, Known: known}
	for _, path := range f.checkpoints {
		signed, err := os.ReadFile(path)
		if err != nil {
			return audit.Report{}, fmt.Errorf("--checkpoint: %w", err)
		}
		cfg.Noted = append(cfg.Noted, merkle.Noted{Name: path, Signed: signed})
	}
	return merkle.Verify(cfg)
}

func readKey(path string) (note.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return merkle.Key(string(text))
}

func (a *app) auditKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Short:   "Show the public key with which the trail's signatures are checked",
		Example: "  bailiff audit key > trail.pub",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printText(cmd, func(ctx context.Context, c *api.Client) (string, error) {
				key, err := c.AuditKey(ctx)
				return key + "\n", err
			})
		},
	}
	return cmd
}

func (a *app) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Show the newest signature for the trail, to keep elsewhere",
		Long: `Show the newest signature for the trail: how many records it has and the root of the tree over them (C2SP tlog-checkpoint).
Kept where the server can't reach it, it proves later that nothing up to then was changed or cut off:
see "bailiff audit verify --checkpoint".`,
		Example: "  bailiff audit checkpoint > \"checkpoint-$(date +%F).txt\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printText(cmd, func(ctx context.Context, c *api.Client) (string, error) { return c.AuditCheckpoint(ctx) })
		},
	}
}

func (a *app) auditProve() *cobra.Command {
	return &cobra.Command{
		Use:   "prove RECORD|REQUEST-ID",
		Short: "Prove to an auditor that a record is in the trail",
		Long: `Prove to an auditor that a record is in the trail, with no more than the record itself and the public key: print a proof
(C2SP tlog-proof) with the record in it. A record is named by its number, or by the id of its request: then it is
the one of how the request ended. "bailiff-proof" checks it; it is a small program of its own.`,
		Example: `  bailiff audit prove 1042 > record-1042.proof
  bailiff-proof -key trail.pub record-1042.proof`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.printText(cmd, func(ctx context.Context, c *api.Client) (string, error) {
				seq, err := recordNumber(ctx, c, args[0])
				if err != nil {
					return "", err
				}
				return c.AuditProof(ctx, seq)
			})
		},
	}
}

// recordNumber is the number of a record, which may be named by its request.
func recordNumber(ctx context.Context, c *api.Client, name string) (uint64, error) {
	if seq, err := strconv.ParseUint(name, 10, 64); err == nil {
		return seq, nil
	}
	page, err := c.Audit(ctx, url.Values{"request_id": {name}, "limit": {"10"}})
	if err != nil {
		return 0, err
	}
	for _, r := range page.Records {
		if r.Stage == audit.StageResponse {
			return r.Seq, nil
		}
	}
	return 0, hinted("\"bailiff audit query --format json\" shows numbers and request ids", "there is no record of a request %q", name)
}

// printText prints what a server says, as it is.
func (a *app) printText(cmd *cobra.Command, ask func(context.Context, *api.Client) (string, error)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	text, err := ask(cmd.Context(), c)
	if err == nil {
		_, err = fmt.Fprint(a.stdout, text)
	}
	return err
}

func reportTable(r audit.Report) table {
	t := table{}
	t.add("records", fmt.Sprintf("%d (%d to %d) in %d segments, %d bytes", r.Records, r.First, r.Last, r.Segments, r.Bytes))
	if r.Records > 0 {
		t.add("from", when(&r.FirstTime))
		t.add("to", when(&r.LastTime))
	}
	t.add("head", r.Head.String())
	for _, s := range r.Proved {
		t.add("proved", s)
	}
	for _, s := range r.Unproved {
		t.add("not proved", s)
	}
	if r.InUse {
		t.add("in use", "a server has it open: what it is writing now was left out")
	}
	if r.OK() {
		t.add("result", "sound")
	} else {
		t.add("result", "NOT SOUND: "+r.Problem)
	}
	return t
}
