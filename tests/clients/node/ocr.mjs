// SPDX-License-Identifier: Apache-2.0
// An ordinary Node program that reads the text of pictures with @gutenye/ocr-node and knows nothing of Outboard.
//   ocr.mjs MODULES_FOLDER PICTURE...
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [modules, ...pictures] = process.argv.slice(2);
const {default: Ocr} = await import(pathToFileURL(path.join(modules, '@gutenye/ocr-node/build/index.js')));
const ocr = await Ocr.create();
for (const picture of pictures) {
  console.log(path.basename(picture));
  for (const line of await ocr.detect(picture)) console.log(line.mean, JSON.stringify(line.box), line.text);
}
