// Package usc owns connectors: secrets in a Vault's KV, listed and changed in place.
package usc
