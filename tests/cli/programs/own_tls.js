// SPDX-License-Identifier: Apache-2.0
// An ordinary Node program, whose OpenSSL is built in: it makes TLS connections before and after inference.
//   own_tls.js MODULES_FOLDER CERTIFICATE KEY MODEL
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const tls = require('tls');
const [modules, certificate, key, model] = process.argv.slice(2);
const ort = require(path.join(modules, 'onnxruntime-node'));

// One TLS connection of this process with itself.
function connection() {
  return new Promise((resolve, reject) => {
    const server = tls.createServer({cert: fs.readFileSync(certificate), key: fs.readFileSync(key)}, (peer) => {
      peer.on('data', (bytes) => peer.end(Buffer.from(bytes).reverse()));
    });
    server.listen(0, '127.0.0.1', () => {
      const client = tls.connect({port: server.address().port, host: '127.0.0.1', ca: fs.readFileSync(certificate),
                                  checkServerIdentity: () => undefined}, () => client.write('own TLS'));
      client.on('data', (bytes) => { resolve(`${bytes} ${client.getProtocol()}`); server.close(); });
      client.on('error', reject);
    });
  });
}

async function main() {
  console.log(process.versions.openssl, crypto.createHash('sha256').update('before').digest('hex'), await connection());
  const session = await ort.InferenceSession.create(model);
  const feeds = {};
  for (const name of session.inputNames)
    feeds[name] = new ort.Tensor('float32', Float32Array.from({length: 6}, (_, k) => k), [2, 3]);
  for (let i = 0; i < 20; ++i) {
    const outputs = await session.run(feeds);
    console.log(Object.keys(outputs).sort().map((n) => Array.from(outputs[n].data).join()).join(), await connection());
  }
  console.log(crypto.createHash('sha512').update('after').digest('hex'));
  console.log('#', process.argv.join(' '), JSON.stringify(process.env));
  console.log('# OUTBOARD_SERVERS=' + (process.env.OUTBOARD_SERVERS || ''));
}
main().catch((e) => { console.error(e); process.exit(1); });
