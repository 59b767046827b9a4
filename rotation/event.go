package rotation

import (
	"context"
	"fmt"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// recordBegin records that a password is about to be changed. Where that can't be recorded, it isn't.
func (m *Manager) recordBegin(ctx context.Context, a *Account) error {
	return m.record(ctx, a, audit.OK, "a new password is about to be set", "")
}

// recordDone records that a password was changed, whether or not the trail takes it: it is in use already.
func (m *Manager) recordDone(ctx context.Context, a *Account, unproven error) {
	detail := "the password was changed"
	if unproven != nil {
		detail += ", and could not be tried"
	}
	m.tell(ctx, a, audit.OK, detail, "")
}

// recordFailure records that a password could not be changed yet.
func (m *Manager) recordFailure(ctx context.Context, a *Account) {
	detail := fmt.Sprintf("the password was not changed, after %d failures", a.Attempt)
	if a.Rotating() {
		detail = fmt.Sprintf("the password is not known to be changed, after %d failures; tried again", a.Attempt)
	}
	m.tell(ctx, a, audit.Failed, detail, a.Error)
}

func (m *Manager) tell(ctx context.Context, a *Account, status audit.Status, detail, failure string) {
	if err := m.record(ctx, a, status, detail, failure); err != nil {
		m.log.Error("a rotation could not be recorded", "mount", a.Mount, "name", a.Name, "target", a.Target, "detail", detail, "error", err)
	}
}

func (m *Manager) record(ctx context.Context, a *Account, status audit.Status, detail, failure string) error {
	rec := &audit.Record{
		Stage: audit.StageEvent, Status: status, Via: string(gate.System), Node: m.cfg.Node, Op: string(policy.Update),
		Path: a.Mount + "static-roles/" + a.Name, Mount: a.Mount, Target: a.Target, Principal: a.Username, Detail: detail, Error: failure,
	}
	if a.Root() {
		rec.Path = "sys/bailiff/objects/target/" + a.Name
	}
	return m.cfg.Recorder.Append(context.WithoutCancel(ctx), rec)
}
