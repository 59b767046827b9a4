// Package gate is the one way to a backend: who, where, may it, record, serve, record.
package gate
