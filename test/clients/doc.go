// Package clients holds tests of the programs that speak Vault's API, each as it comes from its makers and run against Bailiff
// in front of a Vault and a PostgreSQL: Vault Agent, consul-template, sops, node-vault, and the two Go clients of Vault.
package clients
