package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// demo is the stage and what happens on it. After the first surprise nothing more happens, and err says what it was.
type demo struct {
	ctx context.Context //nolint:containedctx // one demo is one operation
	env *testenv.Env
	out *screen
	err error

	vaultA, vaultB *testenv.VaultServer
	pg             *testenv.PostgresServer
	bailiff        *testenv.BailiffServer
	home           string            // of everybody on the stage
	programs       map[string]string // the paths of what the command lines call by name
	auditFile      string            // of vault-a itself

	before      before
	createdByUs result

	now   *shell         // whose terminal the last command was typed in
	shown map[*shell]int // how many variables of a terminal this chapter has shown
	steps int

	direct, operator, platform, app, contractor, security *shell
}

// play sets the stage and plays every chapter.
func (d *demo) play() error {
	started := time.Now()
	if err := d.setUp(); err != nil {
		return err
	}
	ready := time.Now()
	for _, chapter := range []func(){
		d.baseline, d.bridge, d.govern, d.bothWays, d.unchanged, d.denied, d.trail, d.dynamic, d.logins, d.whoReadIt,
	} {
		chapter()
		if d.err != nil {
			d.logs()
			return d.err
		}
	}
	d.out.chapter("That was it")
	d.out.say(fmt.Sprintf("%d commands, each checked. %.0f s to start four servers, %.0f s to play.",
		d.steps, ready.Sub(started).Seconds(), time.Since(ready).Seconds()))
	return nil
}

// step types a command in a terminal, shows what it prints and checks that. what says what was shown to be so.
func (d *demo) step(s *shell, line, what string, checks ...check) result {
	if d.err != nil {
		return result{}
	}
	d.switchTo(s)
	d.out.command(line)
	r, err := d.exec(s, line)
	if err != nil {
		d.err = fmt.Errorf("%s: %w", line, err)
		return r
	}
	d.out.output(r.text())
	for _, c := range checks {
		if err := c(r); err != nil {
			d.err = fmt.Errorf("%s: %w", line, err)
			return r
		}
	}
	d.steps++
	d.out.ok(what)
	return r
}

// switchTo shows what changes when somebody else's terminal comes on the stage.
func (d *demo) switchTo(s *shell) {
	if d.now == s {
		return
	}
	d.now = s
	d.out.say(s.who)
	fresh := s.vars[d.shown[s]:]
	d.shown[s] = len(s.vars)
	for _, v := range fresh {
		name, value := cut(v)
		d.out.export(name, value)
	}
}

func (d *demo) chapter(title string) {
	if d.err == nil {
		d.now, d.shown = nil, map[*shell]int{} // who types is said anew in every chapter
		d.out.chapter(title)
	}
}

// logs shows the end of every server's log.
func (d *demo) logs() {
	const lines = 15
	for _, s := range []struct {
		name string
		tail func(int) string
	}{{"bailiff", d.bailiff.LogTail}, {"vault-a", d.vaultA.LogTail}, {"vault-b", d.vaultB.LogTail}, {"postgres", d.pg.LogTail}} {
		d.out.say("the last lines of " + s.name + ":")
		d.out.output(s.tail(lines))
	}
}

// explain says how to go on by hand.
func (d *demo) explain() {
	d.out.chapter("Everything is still running")
	for _, s := range []*shell{d.direct, d.operator, d.platform, d.app, d.contractor, d.security} {
		d.out.say(s.who)
		for _, v := range s.vars {
			name, value := cut(v)
			d.out.export(name, value)
		}
	}
	d.out.say("The programs are:")
	for _, name := range []string{"vault", "bailiff", "psql"} {
		d.out.output(d.programs[name])
	}
	d.out.say("Ctrl-C ends it all.")
}

// credential is what bailiff prints where it makes an identity with a key.
type credential struct {
	AccessID  string `json:"access_id"`
	AccessKey string `json:"access_key"`
}

func (c credential) token() string { return c.AccessID + ".." + c.AccessKey }

// made reads the credential that a command printed as JSON.
func (d *demo) made(r result) credential {
	var c credential
	if d.err != nil {
		return c
	}
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || c.AccessID == "" || c.AccessKey == "" {
		d.err = fmt.Errorf("no credential in the output: %w", err)
	}
	return c
}
