// SPDX-License-Identifier: Apache-2.0
// An ordinary Node program that uses onnxruntime-node and knows nothing of Outboard.
//   node program.js MODULES_FOLDER MODEL...
const path = require('path');
const fs = require('fs');
const crypto = require('crypto');
const ort = require(path.join(process.argv[2], 'onnxruntime-node'));

function text(tensor) {
  const data = tensor.type === 'string' ? Buffer.from(tensor.data.join('|')) :
    Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  return `${tensor.type}[${tensor.dims}] ${crypto.createHash('md5').update(data).digest('hex')}`;
}

async function main() {
  for (const [i, model] of process.argv.slice(3).entries()) {
    console.log(path.basename(model));
    const session = await ort.InferenceSession.create(i % 2 ? fs.readFileSync(model) : model);
    console.log(' ', session.inputNames.join(), session.outputNames.join());
    const feeds = {};
    for (const name of session.inputNames)
      feeds[name] = new ort.Tensor('float32', Float32Array.from({length: 8}, (_, k) => k / 4 - 1), [2, 4]);
    const all = await session.run(feeds);
    for (const name of Object.keys(all).sort()) console.log(' ', name, text(all[name]));
    const one = await session.run(feeds, [session.outputNames[0]]);
    console.log(' ', Object.keys(one).join(), text(one[session.outputNames[0]]));
    const many = await Promise.all(Array.from({length: 8}, () => session.run(feeds)));
    console.log(' ', many.map((r) => text(r[session.outputNames[0]])).join(' '));
    try {
      await session.run({wrong: feeds[session.inputNames[0]]});
    } catch (e) {
      console.log('  error', e.message);
    }
    await session.release();
  }
}
main().catch((e) => { console.error(e); process.exit(1); });
