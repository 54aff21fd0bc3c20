// SPDX-License-Identifier: Apache-2.0
// An ordinary Node program that uses onnxruntime-node and knows nothing of Outboard.
//   client.js MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
const path = require('path');
const ort = require('onnxruntime-node');

const TYPES = {float32: 'float', int64: 'int64', string: 'string'};
const RUNS = 16;

function makeInput(type, shape) {
  const dims = shape.map((d) => typeof d === 'number' ? d : 2);
  const flat = [...Array(dims.reduce((a, b) => a * b, 1)).keys()];
  if (type === 'string') return new ort.Tensor('string', flat.map((k) => `s${k}é`), dims);
  if (type === 'int64') return new ort.Tensor('int64', BigInt64Array.from(flat, BigInt), dims);
  return new ort.Tensor('float32', Float32Array.from(flat, (k) => k / 4 - 1), dims);
}

function text(name, tensor) {
  const bits = (data) => Array.from(new Uint32Array(data.buffer, data.byteOffset, data.length), (b) => b.toString(16).padStart(8, '0'));
  const values = tensor.type === 'float32' ? bits(tensor.data) : Array.from(tensor.data, String);
  return `  ${name} ${TYPES[tensor.type]} [${tensor.dims}] ${values.join(' ')}`;
}

async function main() {
  for (const [i, model] of process.argv.slice(2).entries()) {
    console.log(path.basename(model));
    const session = await ort.InferenceSession.create(model);
    const feeds = {};
    for (const [kind, values] of [['in', session.inputMetadata], ['out', session.outputMetadata]]) {
      for (const v of values) {
        console.log(`  ${kind} ${v.name} ${TYPES[v.type]} [${v.shape.map((d) => typeof d === 'number' ? d : -1)}]`);
        if (kind === 'in') feeds[v.name] = makeInput(v.type, v.shape);
      }
    }
    const run = async () => {
      const outputs = await session.run(feeds);
      return session.outputNames.map((name) => text(name, outputs[name])).join('\n');
    };
    const first = await run();
    console.log(first);
    const again = await Promise.all(Array.from({length: RUNS}, run));
    console.log('  again', again.filter((t) => t === first).length);
    if (i % 2) await session.release();  // and some are never released
  }
}
main().catch((e) => { console.error(e); process.exit(1); });
