// What programs written for Node.js expect to find, and output that Deno's kernel would drop.
import { createRequire } from "node:module";
import { Buffer as NodeBuffer } from "node:buffer";
import nodeProcess from "node:process";
globalThis.require = createRequire(Deno.cwd() + "/");
globalThis.Buffer = NodeBuffer;
globalThis.global = globalThis;
for (const name of ["stdout", "stderr"]) {
  const decoder = new TextDecoder();
  const say = async (text) => await Deno.jupyter.broadcast("stream", { name, text });
  Deno[name].writeSync = (data) => {
    say(decoder.decode(data, { stream: true }));
    return data.length;
  };
  Deno[name].write = async (data) => {
    await say(decoder.decode(data, { stream: true }));
    return data.length;
  };
  nodeProcess[name].write = (data, encoding, done) => {
    const call = typeof encoding === "function" ? encoding : done;
    const text = typeof data === "string" ? data : decoder.decode(data, { stream: true });
    say(text).then(() => call?.());
    return true;
  };
}
undefined;
