// Package engine serves broker mounts in the clothes of Vault's engines.
//
// A broker mount has the paths of Vault's database engine, with its shapes and its words, so that what is written for it
// applies. What stands behind them are declared objects, which a write here changes as an apply does: checked, versioned and
// recorded.
//
//	config/<name>        a target
//	roles/<name>         a producer of the mount
//	static-roles/<name>  a static role of the mount
//	creds/<name>         issues a credential: the broker's
//	static-creds/<name>  the password of a static role, which package rotation keeps
//	rotate-root/<name>   changes the password of the target's own user
//	rotate-role/<name>   changes the password of a static role
//	reset/<name>         connects to the target anew
//
// Types of targets whose engine in Vault has other paths or field names say so (broker.Shape): their roles issue there too, as
// aws/sts/<name> or pki/issue/<name>, and answer in those names.
//
// A target belongs to the mount under which it was written, and no other mount can use it. One that is declared in a file
// without a mount belongs to every mount that has roles on it, and to the only broker mount where there is but one.
//
// docs/vault-database.md lists what differs from Vault.
package engine
