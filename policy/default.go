package policy

// Default is the text of the built-in policy "default", which every identity has: what a caller may do with its own
// token, its own leases and what it was handed. It grants what Vault's does.
const Default = `# Its own token: look at it, keep it alive, give it up.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# Its own entity.
path "identity/entity/id/{{identity.entity.id}}" {
  capabilities = ["read"]
}
path "identity/entity/name/{{identity.entity.name}}" {
  capabilities = ["read"]
}

# What it may do, asked for one path or for all.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

# A lease whose id it knows: look at it, keep it alive. The older path is for older clients.
path "sys/leases/lookup" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/renew" {
  capabilities = ["update"]
}

# Its own small store.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Values handed on in a wrapping token.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}
path "sys/wrapping/lookup" {
  capabilities = ["update"]
}
path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}

# Hashing, which tells it nothing that it didn't know.
path "sys/tools/hash" {
  capabilities = ["update"]
}
path "sys/tools/hash/*" {
  capabilities = ["update"]
}

# How a request stands that waits for somebody's consent.
path "sys/control-group/request" {
  capabilities = ["update"]
}

# Logging in elsewhere with OpenID Connect.
path "identity/oidc/provider/+/authorize" {
  capabilities = ["read", "update"]
}
`
