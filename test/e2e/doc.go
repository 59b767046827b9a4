// Package e2e holds tests from end to end: the real bailiff program, Vault's own command line, two real Vault servers and
// a real PostgreSQL.
package e2e
