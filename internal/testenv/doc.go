// Package testenv builds, installs and starts the real servers that tests and the demo talk to.
//
// An [Env] knows where the servers' binaries are kept and starts them: [Env.StartVault], [Env.StartPostgres] and, for any
// other command, [Env.Start]. Each server has ports and a directory of its own on the loopback address, and ends together
// with the process that started it, even if that process is killed with SIGKILL.
//
// Tests use the short forms [Vault], [Postgres], [NewVault], [NewPostgres], [VaultCLI] and [BuildBailiff], which fail the
// test when a server cannot be had. Nothing here ever touches a server that was running before, or a standard port.
//
// What is expensive to make is kept in a cache outside the tree: $BAILIFF_CACHE, or else bailiff in the user's cache
// directory.
package testenv
