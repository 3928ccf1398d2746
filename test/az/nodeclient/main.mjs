// Drives a server with the official libraries of npm, unmodified. It reads a JSON
// document from the first line of standard input, prints a line for each thing
// that it has proved, and exits 1 with the first that is not as documented.
// "mode" is what to prove.
import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";

globalThis.crypto ??= webcrypto; // what the libraries find in newer ones, Node.js 18 has under another name

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const task = JSON.parse((await lines.next()).value);

// ask prints words for whoever reads the output, and waits for his line.
task.ask = async (...words) => {
  console.log(words.join(" "));
  return (await lines.next()).value;
};

const modes = { msal: "./msal.mjs", interactive: "./msal.mjs", resources: "./identity.mjs", device: "./identity.mjs", identity: "./identity.mjs", openid: "./openid.mjs" };
try {
  await (await import(modes[task.mode])).default[task.mode](task);
  process.exit(0);
} catch (failed) {
  console.error(failed);
  process.exit(1);
}
