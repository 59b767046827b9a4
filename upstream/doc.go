// Package upstream owns sessions with the Vault servers behind and forwards to them.
package upstream
