// Package producers is the catalogue of producers by target type.
package producers

// The contract: Types maps a target's type to how its producer is made. A Factory validates and connects to nothing.
//
//	type Factory struct {
//		New  func(Config) (Closer, error)                // Closer: broker.Producer and io.Closer
//		Role func(object.Producer) (any, error)          // validates a role; the result is broker.Role.Config
//	}
//	type Config struct { Target object.Target; Logger *slog.Logger }
//	var Types = map[string]Factory{"postgres": {…}}
