// SPDX-License-Identifier: Apache-2.0
// An ordinary Node program that wants a GPU and knows nothing of Outboard.  node gpu.js MODULES MODEL
const path = require('path');
const ort = require(path.join(process.argv[2], 'onnxruntime-node'));

async function main() {
  const x = new ort.Tensor('float32', Float32Array.from([0, 1, 2, 3, -4, 5, 6, 7]), [2, 4]);
  const ways = {plain: undefined, name: ['cuda'], options: [{name: 'cuda', deviceId: 0}, 'cpu'],
                tensorrt: [{name: 'tensorrt', deviceId: 0}]};
  for (const [how, executionProviders] of Object.entries(ways)) {
    try {
      const session = await ort.InferenceSession.create(process.argv[3], executionProviders && {executionProviders});
      const {y} = await session.run({x});
      console.log(how, Array.from(y.data).map((v) => v.toPrecision(9)).join(' '));
    } catch (e) {
      console.log(how, 'failed', e.message);
    }
  }
}
main();
