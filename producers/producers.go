// Package producers is the catalogue of producers by target type.
package producers

import (
	"io"
	"log/slog"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
)

// Closer is a producer that holds connections until it is closed.
type Closer interface {
	broker.Producer
	io.Closer
}

// Config is what a producer is made of.
type Config struct {
	Target object.Target
	Logger *slog.Logger
}

// Factory makes the producers of one target type.
type Factory struct {
	// New checks a target and makes its producer. It connects to nothing.
	New func(Config) (Closer, error)
	// Shape is the clothes of Vault's in which its credentials go out; the zero value is creds/<role> of the database engine.
	// A new type takes the paths and the names of fields of Vault's engine for it, where Vault has one.
	Shape broker.Shape
	// Role validates a producer object; the result is broker.Role.Config.
	Role func(object.Producer) (any, error)
}

// Types maps a target's type to how its producers are made. It is not changed.
var Types = map[string]Factory{
	"postgres": {
		New: func(c Config) (Closer, error) {
			return orNil(postgres.New(postgres.Config{Target: c.Target, Logger: c.Logger}))
		},
		Role: func(o object.Producer) (any, error) { return postgres.NewRole(o) },
	},
}

// orNil keeps a nil pointer from becoming an interface that isn't nil.
func orNil[P Closer](p P, err error) (Closer, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}
