package broker

import (
	"context"
	"math/rand/v2"
	"time"
)

// The wait between two probes of one credential.
const (
	firstProbe = 50 * time.Millisecond
	mostProbe  = time.Second
)

// awaitReady probes a new credential until it works, for as long as its role allows, and says in cred.Warnings where it
// does not work by then: it is released all the same, because it may work a moment later, and the client can wait better
// than a broker can. A tenth of the time until the deadline is left for making the lease active.
func (b *Broker) awaitReady(ctx context.Context, p Producer, spec Spec, cred *Credential) {
	prober, ok := p.(Prober)
	if !ok || spec.Role.ReadyTimeout <= 0 {
		return
	}
	left := time.Until(spec.Deadline)
	ctx, cancel := context.WithTimeout(ctx, min(spec.Role.ReadyTimeout, left-left/10))
	defer cancel()
	if err := b.probeUntil(ctx, prober, spec, cred); err != nil {
		b.log.Warn("a credential does not work yet", "lease_id", spec.LeaseID, "target", spec.Role.Target, "error", words(err))
		cred.Warnings = append(cred.Warnings, "the credential may not work yet: "+words(err))
	}
}

// probeUntil probes until the credential works or ctx ends; then it returns why the credential did not work.
func (b *Broker) probeUntil(ctx context.Context, p Prober, spec Spec, cred *Credential) error {
	for wait := firstProbe; ; wait = min(2*wait, mostProbe) {
		err := b.probeOnce(ctx, p, spec, cred)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (b *Broker) probeOnce(ctx context.Context, p Prober, spec Spec, cred *Credential) (err error) {
	defer b.recovered(&err, spec.LeaseID)
	return p.Probe(ctx, spec, cred)
}
