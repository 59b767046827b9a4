# Paths that clients see. The first is called as it is called on vault-a, so that nobody has to change anything.

mount "secret" {
  type   = "vault"
  target = "vault-a"
}

mount "team-b" {
  type        = "vault"
  target      = "vault-b"
  remote_path = "secret"
}

mount "database" {
  type = "broker"
}

# A short name for one of them, for people who use "bailiff usc".
connector "demo-vault-usc" {
  mount = "secret"
}

# Logins to the database that last an hour.
producer "database/readonly" {
  target      = "orders-db"
  default_ttl = "1h"
  max_ttl     = "24h"
  creation_statements = [
    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
    "GRANT readonly TO \"{{name}}\"",
  ]
}
