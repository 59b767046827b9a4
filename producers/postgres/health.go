package postgres

import "context"

// Health is nil where the target lets Bailiff's own user in. An error is a *broker.RevokeError without values.
func (p *Producer) Health(ctx context.Context) error {
	pool, err := p.connections()
	if err != nil {
		return err
	}
	if err := pool.Ping(ctx); err != nil {
		return classed("asking the server", err)
	}
	return nil
}
