# What the billing team may do. It is written with "vault policy write", as it would be on a Vault.
path "team-b/data/billing/*" {
  capabilities = ["read"]
}
