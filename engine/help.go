package engine

import (
	"github.com/bailiff-secrets/bailiff/gate"
)

// help answers in the shape of Vault's path help.
func help(dir, name string) (*gate.Response, error) {
	text, ok := helpTexts[dir]
	if !ok {
		text = mountHelp
	}
	if name == "" && (dir == "creds" || dir == "static-creds" || dir == "rotate-root" || dir == "rotate-role" || dir == "reset") {
		text = mountHelp
	}
	return &gate.Response{Bare: true, Data: map[string]any{"help": text, "see_also": []string{}}}, nil
}

const mountHelp = `This mount lends credentials of databases.

    config/<name>         a database, and the user as which Bailiff works there
    roles/<name>          how credentials are made that live as long as their lease
    creds/<name>          read: issues one of a role
    static-roles/<name>   an account that stays, and how often its password changes
    static-creds/<name>   read: its password
    rotate-root/<name>    write: changes the password of Bailiff's own user
    rotate-role/<name>    write: changes the password of a static role
    reset/<name>          write: connects anew
`

// helpTexts are by directory. It is not changed.
var helpTexts = map[string]string{
	"config": `How a database is reached. Writing needs plugin_name=postgresql-database-plugin, connection_url with
{{username}}:{{password}} in it, username and password. allowed_roles names the roles that may use it; without it none
may. Bailiff logs in before it keeps what was written, unless verify_connection=false.

Reading never shows the password. What is declared in files stands here too.
`,
	"roles": `How a role makes its credentials: db_name is the name of a config, creation_statements make the account
from {{name}}, {{password}} and {{expiration}}, and revocation_statements remove it, where the default is not enough. default_ttl and
max_ttl say how long a lease lives.
`,
	"creds": `Reading issues a new credential of the role.

It is ended on the target when its lease expires or is revoked. The lease can be renewed up to the role's max_ttl.
`,
	"static-roles": `An account that stays: db_name is the name of a config, username the account, and rotation_period (or
rotation_schedule, a cron expression in UTC) says when its password changes. rotation_statements change it from {{name}} and
{{password}}, where the default is not enough. The password is changed when the role is made.
`,
	"static-creds": `Reading gives the username and the password of a static role, and in ttl the seconds until it changes.
`,
	"rotate-root": `Writing changes the password of the user as which Bailiff works on the database. From then on nobody but
Bailiff knows it.
`,
	"rotate-role": `Writing changes the password of a static role now.
`,
	"reset": `Writing ends the connections to the database and begins anew.
`,
}
