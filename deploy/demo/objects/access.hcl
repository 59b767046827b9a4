# Who may do what, in Vault's own policy language. One rule governs a secret whichever tool asks for it.

policy "platform" {
  rules = <<EOT
path "secret/data/myapp/*" {
  capabilities = ["create", "read", "update", "delete"]
}
path "secret/metadata/*" {
  capabilities = ["read", "list"]
}
EOT
}

policy "app" {
  rules = <<EOT
path "secret/data/myapp/*" {
  capabilities = ["read"]
}
path "secret/metadata/myapp" {
  capabilities = ["list"]
}
path "team-b/data/*" {
  capabilities = ["read"]
}
path "database/creds/readonly" {
  capabilities = ["read"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}
path "sys/leases/revoke/*" {
  capabilities = ["update"]
}
EOT
}

# Everything of myapp but the database's password.
policy "contractor" {
  rules = <<EOT
path "secret/data/myapp/*" {
  capabilities = ["read"]
}
path "secret/data/myapp/db-password" {
  capabilities = ["deny"]
}
path "secret/metadata/*" {
  capabilities = ["list"]
}
EOT
}

policy "security" {
  rules = <<EOT
path "sys/bailiff/audit" {
  capabilities = ["read"]
}
path "sys/bailiff/audit/*" {
  capabilities = ["read"]
}
path "sys/bailiff/leases" {
  capabilities = ["list"]
}
EOT
}

role "platform" {
  policies = ["platform"]
}

role "app" {
  policies = ["app"]
}

role "contractor" {
  policies = ["contractor"]
}

role "security" {
  policies = ["security"]
}
