package config

// ExampleServer is a server's configuration with every key, for the documentation and as a start.
const ExampleServer = `# Paths are relative to this file. What is left out is as it stands here.
node          = "bailiff-1" # default: the host's name
data_dir      = "/var/lib/bailiff"
root_key_file = "/var/lib/bailiff/root.key"
admin_socket  = "/var/lib/bailiff/admin.sock"

listener {
  address       = "0.0.0.0:8280" # default 127.0.0.1:8280
  tls_cert_file = "tls/server.pem" # default: plain HTTP, on a loopback address only
  tls_key_file  = "tls/server.key"

  trusted_proxies = ["10.1.0.0/16"] # whose X-Forwarded-For counts; default: nobody's
  proxy_protocol  = false           # true: connections from them begin with the PROXY protocol, version 1 or 2
}

metrics {
  address = "127.0.0.1:8281"
}

limits {
  max_body            = "32MiB"
  request_timeout     = "90s"
  read_header_timeout = "10s"
  idle_timeout        = "2m"
  max_header_bytes    = "64KiB"
  max_connections     = 4096
}

tokens {
  default_ttl = "768h"
  max_ttl     = "768h"
}

audit {
  dir          = "/var/lib/bailiff/audit"
  segment_size = "128MiB"
  reserve      = "256MiB" # stays free, so that revocations can be recorded on a full disk
}

log {
  level  = "info"
  format = "json"
}
`

// ExampleObjects is one object of each kind and way, for the documentation and as a start. It reads the environment
// variables VAULT_A_TOKEN, VAULT_B_SECRET_ID and the file pg.password.
const ExampleObjects = `target "vault-a" {
  type    = "vault"
  address = "http://127.0.0.1:8200"
  auth {
    method = "token"
    token  = env("VAULT_A_TOKEN")
  }
}

target "vault-b" {
  type    = "vault"
  address = "https://vault-b.example.com:8200"
  auth {
    method    = "approle"
    role_id   = "55f45d16-9b5e-14b4-d201-efc8289b002f"
    secret_id = env("VAULT_B_SECRET_ID")
  }
}

target "pg" {
  type     = "postgres"
  address  = "postgres://127.0.0.1:5432/app?sslmode=disable"
  username = "bailiff"
  password = file("pg.password")
}

# What Vault serves there is found on the target: engine, version, path.
mount "secret" {
  type   = "vault"
  target = "vault-a"
}

mount "team-b/kv" {
  type        = "vault"
  target      = "vault-b"
  remote_path = "kv"
}

mount "database" {
  type    = "broker"
  max_ttl = "24h"
}

producer "database/readonly" {
  target      = "pg"
  default_ttl = "1h"
  max_ttl     = "24h"
  creation_statements = [
    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{{name}}\"",
  ]
}

connector "demo-vault-usc" {
  target = "vault-a"
}

connector "team-b-usc" {
  mount = "team-b/kv"
}

policy "app" {
  rules = <<EOT
path "secret/data/app/*" {
  capabilities = ["create", "read", "update"]
}
path "database/creds/readonly" {
  capabilities = ["read"]
}
EOT
}

role "app" {
  policies   = ["app"]
  identities = ["ci"]
}

identity "ci" {
  description = "the build server"
  metadata    = { team = "platform" }
}
`
