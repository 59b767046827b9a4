// What a program does with node-vault: VAULT_ADDR says where, ROLE_ID and SECRET_ID who. Each thing done is a line.
'use strict';

const vault = require('node-vault')({ apiVersion: 'v1', endpoint: process.env.VAULT_ADDR });

function want(what, got, wanted) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(wanted)}`);
  }
  console.log(what);
}

async function status(promise) {
  try {
    await promise;
    return 200;
  } catch (err) {
    if (!err.response) throw err;
    return err.response.statusCode;
  }
}

async function main() {
  want('healthy', (await vault.health()).sealed, false);
  const login = await vault.approleLogin({ role_id: process.env.ROLE_ID, secret_id: process.env.SECRET_ID });
  vault.token = login.auth.client_token;
  want('logged in', (await vault.tokenLookupSelf()).data.id, vault.token);
  await vault.write('secret/data/clients/node/a', { data: { k: 'v', ключ: 'ü' } });
  want('read what was written', (await vault.read('secret/data/clients/node/a')).data.data, { k: 'v', ключ: 'ü' });
  want('listed', (await vault.list('secret/metadata/clients/node')).data.keys, ['a']); // with the method LIST
  want('forbidden', await status(vault.read('secret/data/others/a')), 403);
  want('missing', await status(vault.read('secret/data/clients/node/none')), 404);
  const lease = await vault.read(process.env.DATABASE);
  want('a credential', typeof lease.data.username, 'string');
  want('renewed', (await vault.write('sys/leases/renew', { lease_id: lease.lease_id, increment: 2 })).lease_id, lease.lease_id);
  await vault.revoke({ lease_id: lease.lease_id });
  want('the lease has ended', await status(vault.write('sys/leases/renew', { lease_id: lease.lease_id })), 400);
  await vault.delete('secret/metadata/clients/node/a');
  want('deleted', await status(vault.read('secret/data/clients/node/a')), 404);
  want('renewed itself', (await vault.tokenRenewSelf()).auth.client_token, vault.token);
  await vault.tokenRevokeSelf();
  want('revoked itself', await status(vault.tokenLookupSelf()), 403);
}

main().catch((err) => {
  console.error(err.message);
  process.exit(1);
});
