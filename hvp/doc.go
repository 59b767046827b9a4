// Package hvp speaks the HashiCorp Vault HTTP dialect and does nothing else.
package hvp
