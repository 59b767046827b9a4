# The systems behind: two Vault clusters that were here before Bailiff, and a database.
# Addresses and credentials come from the environment of whoever applies this.

target "vault-a" {
  type    = "vault"
  address = env("VAULT_A_ADDR")
  auth {
    method = "token"
    token  = env("VAULT_A_TOKEN")
  }
}

target "vault-b" {
  type    = "vault"
  address = env("VAULT_B_ADDR")
  auth {
    method = "token"
    token  = env("VAULT_B_TOKEN")
  }
}

target "orders-db" {
  type     = "postgres"
  address  = env("ORDERS_DB_URL")
  username = "bailiff"
  password = env("ORDERS_DB_PASSWORD")
}
