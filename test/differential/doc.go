// Package differential holds the proof that clients cannot tell Bailiff from Vault: the scripts in testdata are run against a
// Vault and against Bailiff in front of its equal, and every answer is compared field by field.
//
// A script is lines in sections. "== name" begins a section, which is a row of the table of endpoints in
// docs/vault-compat.md. A line that begins with a method is a request, one that begins with $ a run of the vault command:
//
//	GET sys/mounts
//	@few PUT secret/data/a {"data":{"k":"v"}}
//	  + X-Vault-Wrap-TTL: 60s
//	  > wrapped = wrap_info.token
//	$ kv get -field=k secret/a
//	  ! some-difference
//
// @name sends the token that the variable name holds in place of the script's caller's; @none sends none. Indented lines
// belong to the line above: + adds a header or, to a command, a variable of its environment; < is a line of standard input;
// > keeps a field of the answer in a variable, for each side its own, to be used as ${name}; ! names a difference that is
// allowed there, by its name in the table of differences in docs/vault-compat.md, and must be seen. "caller name" sets whose token the
// following lines send.
//
// RAW sends the quoted bytes that follow and reads an answer.
package differential
