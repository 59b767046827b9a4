package main

import (
	"fmt"
	"strings"
)

const (
	password = "demo-Sup3rS3cret"
	apiKey   = "demo-ak-7f3e"
)

// before keeps what the first chapter printed, for the fifth to be held against.
type before struct{ list, password result }

func (d *demo) baseline() {
	d.chapter("1. The baseline: a Vault, and no Bailiff in the picture")
	d.before.list = d.step(d.direct, "vault kv list secret/myapp", "two secrets are there", fine("api-key", "db-password"))
	d.before.password = d.step(d.direct, "vault kv get secret/myapp/db-password", "the database's password", fine(password))
	d.step(d.direct, "vault kv get secret/myapp/api-key", "an API key", fine(apiKey))
}

func (d *demo) bridge() {
	d.chapter("2. The bridge: Bailiff reaches the Vaults and the database; nothing moves")
	admin := d.made(d.step(d.operator, "bailiff bootstrap --format json --socket "+d.bailiff.Socket(),
		"the first administrator, shown once", fine("access_key")))
	d.operator.vars = append(d.operator.vars, "BAILIFF_TOKEN="+admin.token())
	d.now = nil
	d.step(d.operator, "bailiff apply -f deploy/demo/objects --yes", "targets, mounts, policies and roles, as files in version control",
		fine("vault-a", "vault-b", "orders-db"))
	d.step(d.operator, "bailiff target list", "three targets", fine("vault-a", "vault-b", "orders-db"))
	d.step(d.operator, "bailiff status", "every target is reachable", fine("vault-a", "vault-b", "orders-db"), without("unreachable"))
	d.platform = d.person("ana", "platform", "Ana of the platform team uses Bailiff's own command line.", "BAILIFF")
	d.app = d.person("legacy-app", "app", "A pipeline that knows nothing but the vault command. One variable points it at Bailiff.", "VAULT")
	d.contractor = d.person("carl", "contractor", "Carl, a contractor, may read what myapp needs, but not the database's password.", "BAILIFF")
	d.security = d.person("sam", "security", "Sam of the security team.", "BAILIFF")
}

// person makes an identity with a role and returns its terminal, in which the address and the token are exported.
func (d *demo) person(name, role, who, program string) *shell {
	c := d.made(d.step(d.operator, fmt.Sprintf("bailiff identity create %s --role %s --format json", name, role),
		"an identity with a key", fine("access_key")))
	return &shell{who: who, vars: []string{program + "_ADDR=" + d.bailiff.Addr, program + "_TOKEN=" + c.token()}}
}

func (d *demo) govern() {
	d.chapter("3. Governed: the same secrets, in place, judged and recorded")
	d.step(d.platform, "bailiff usc list -n demo-vault-usc", "both secrets, where they always were", fine("myapp/api-key", "myapp/db-password"))
	d.step(d.platform, "bailiff usc get -n demo-vault-usc -s myapp/db-password", "the same password", fine(password))
	d.step(d.platform, "bailiff usc get -n demo-vault-usc -s myapp/api-key", "the same key", fine(apiKey))
}

func (d *demo) bothWays() {
	d.chapter("4. Both ways: no copy, no sync, no lag")
	d.step(d.platform, "bailiff usc create -n demo-vault-usc -s myapp/created-from-bailiff -v service-token=demo-st-100", "written through Bailiff", fine())
	d.createdByUs = d.step(d.direct, "vault kv get secret/myapp/created-from-bailiff", "there it is, for somebody who knows only Vault", fine("demo-st-100"))
	d.step(d.direct, "vault kv put secret/myapp/created-from-vault origin=demo-native", "written straight to Vault", fine())
	d.step(d.platform, "bailiff usc list -n demo-vault-usc", "listed at once", fine("myapp/created-from-vault"))
	d.step(d.platform, "bailiff usc get -n demo-vault-usc -s myapp/created-from-vault", "and read", fine("demo-native"))
	d.step(d.platform, "bailiff usc update -n demo-vault-usc -s myapp/created-from-vault -v origin=demo-updated", "changed through Bailiff", fine())
	d.step(d.direct, "vault kv get -field=origin secret/myapp/created-from-vault", "changed in Vault", fine("demo-updated"))
	d.step(d.platform, "bailiff usc delete -n demo-vault-usc -s myapp/created-from-vault", "deleted through Bailiff", fine())
	d.step(d.direct, "vault kv get -field=origin secret/myapp/created-from-vault", "gone in Vault", ends(2, "No data found"))
}

func (d *demo) unchanged() {
	d.chapter("5. Unchanged: VAULT_ADDR is all that a team changes")
	d.step(d.app, "vault kv list secret/myapp", "the pipeline's own command", fine("api-key", "db-password", "created-from-bailiff"))
	d.step(d.app, "vault kv get secret/myapp/db-password", "to the last character what chapter 1 printed", fine(), same(d.before.password))
	d.step(d.app, "vault kv get secret/myapp/created-from-bailiff", "and what chapter 4 printed", fine(), same(d.createdByUs))
	d.step(d.app, "vault kv get team-b/billing/stripe", "the other team's Vault, at the same address", fine("demo-sk-team-b"))
	d.step(d.app, "vault token lookup", "a token that is an identity of Bailiff's", fine("legacy-app"))
}

func (d *demo) denied() {
	d.chapter("6. Denied: decided here, and never seen by Vault")
	count := fmt.Sprintf("grep -c '\"path\":\"secret/data/myapp/db-password\"' %s", d.auditFile)
	reached := d.step(d.direct, count, "so many lines has Vault's own audit device about the password", fine())
	d.step(d.contractor, "bailiff usc get -n demo-vault-usc -s myapp/api-key", "Carl may read this", fine(apiKey))
	d.step(d.contractor, "bailiff usc get -n demo-vault-usc -s myapp/db-password", "but not that", ends(3, "denied"), without(password))
	carl := &shell{who: "Carl tries the vault command instead.", vars: []string{
		"VAULT_ADDR=" + d.bailiff.Addr, "VAULT_TOKEN=" + d.contractor.token(),
	}}
	d.step(carl, "vault kv get secret/myapp/db-password", "the same rule, whichever tool asks", ends(2, "permission denied"), without(password))
	d.step(d.direct, count, "not one line more: neither request reached Vault", fine(), same(reached))
}

func (d *demo) trail() {
	d.chapter("7. One trail for all of it")
	d.step(d.security, "bailiff audit query --limit 200", "every read, write and denial, by name, whichever tool it came through",
		fine("ana", "legacy-app", "carl", "usc", "hvp", "denied", "secret/data/myapp/created-from-bailiff", "team-b/data/billing/stripe"),
		without(password, apiKey, "demo-st-100"))
}

func (d *demo) dynamic() {
	d.chapter("8. Lent, not kept: a database login that ends with its lease")
	lent := d.step(d.app, "vault read database/creds/readonly", "a login that did not exist a moment ago", fine("lease_id", "username", "password"))
	host, port, _ := strings.Cut(d.pg.Addr, ":")
	login := &shell{who: "With that login, in the database.", vars: []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGDATABASE=postgres", "PGUSER=" + lent.row("username"), "PGPASSWORD=" + lent.row("password"),
	}}
	lease := lent.row("lease_id")
	d.step(login, "psql -c 'select * from orders'", "it reads", fine("Grace"))
	d.step(login, "psql -c 'delete from orders'", "and only reads", ends(1, "permission denied"))
	d.step(d.app, "vault lease renew "+lease, "renewed", fine(lease))
	d.step(d.app, "vault lease revoke -sync "+lease, "revoked, and gone from the database when this returns", fine())
	d.step(login, "psql -c 'select * from orders'", "nobody logs in with it any more", ends(2, "failed"))
}

func (d *demo) logins() {
	d.chapter("9. Logins, tokens and wrapping, by the vault command alone")
	root := &shell{who: "The operator again, with nothing but the vault command.", vars: []string{
		"VAULT_ADDR=" + d.bailiff.Addr, "VAULT_TOKEN=" + d.operator.last("BAILIFF_TOKEN"),
	}}
	d.step(root, "vault auth enable userpass", "a way to log in", fine("Enabled userpass"))
	d.step(root, "vault policy write billing deploy/demo/billing.hcl", "a policy, beside those from files", fine("Uploaded policy: billing"))
	d.step(root, "vault write auth/userpass/users/grace password=demo-grace policies=billing", "and somebody who has it", fine())
	grace := &shell{who: "Grace of the billing team. She has a password and no token.", vars: []string{"VAULT_ADDR=" + d.bailiff.Addr}}
	d.step(grace, "vault login -method=userpass username=grace password=demo-grace", "logged in", fine("You are now authenticated", "billing"))
	d.step(grace, "vault kv get -field=key team-b/billing/stripe", "what her policy allows", fine("demo-sk-team-b"))
	d.step(grace, "vault kv get secret/myapp/api-key", "and nothing else", ends(2, "403"), without(apiKey))
	wrapped := d.step(grace, "vault read -wrap-ttl=60s -field=wrapping_token team-b/data/billing/stripe", "an envelope that can be opened once, within a minute", fine())
	carl := &shell{who: "She hands it to Carl.", vars: []string{"VAULT_ADDR=" + d.bailiff.Addr, "VAULT_TOKEN=" + d.contractor.token()}}
	open := "vault unwrap " + strings.TrimSpace(wrapped.stdout)
	d.step(carl, open, "he opens it", fine("demo-sk-team-b"))
	d.step(carl, open, "a second time nobody does", ends(2, "wrapping token is not valid"), without("demo-sk-team-b"))
	d.step(grace, "vault token revoke -self", "logged out", fine("Success"))
	d.step(grace, "vault kv get -field=key team-b/billing/stripe", "her token is worth nothing any more", ends(2, "403"), without("demo-sk-team-b"))
}

func (d *demo) whoReadIt() {
	d.chapter("10. The question: who had the production database's password?")
	d.step(d.security, "bailiff audit who-had secret/myapp/db-password --since 90d", "one command: who, how often, when, by which door",
		fine("ana", "legacy-app", "carl"), without(password))
	d.step(d.security, "bailiff audit query --path secret/data/myapp/db-password", "everybody who read it, and who tried",
		fine("ana", "legacy-app", "carl", "denied"), without(password))
	d.step(d.security, "bailiff audit query --identity carl --status denied", "everything that Carl was refused", fine("carl", "denied"), without("legacy-app"))
	d.step(d.security, "bailiff audit query --identity userpass-grace", "and Grace's login is in it too", fine("auth/userpass/login/grace", "team-b/data/billing/stripe"), without("demo-grace"))
	d.step(d.operator, "bailiff audit verify --dir "+d.bailiff.AuditDir(), "the trail is whole: nothing was cut out, added or changed", fine())
}
