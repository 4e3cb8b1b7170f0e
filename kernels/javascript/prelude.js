// What programs written for Node.js expect to find, output that Deno's kernel would drop, and
// errors that it would not explain, or wait for without an end.
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
for (const [type, field] of [["error", "error"], ["unhandledrejection", "reason"]]) {
  globalThis.addEventListener(type, (event) => {
    event.preventDefault();
    console.error("Uncaught", event[field]);
  });
}
// Environment variables come as the answer to a question, as data.
{
  const [ask, parse, env] = [globalThis.prompt, JSON.parse, Deno.env];
  const put = ([name, value]) => value === null ? env.delete(name) : env.set(name, value);
  let before = [];
  Object.defineProperty(globalThis, Symbol.for("code_interpreter.set_variables"), {
    value: () => {
      const [lasting, own] = parse(ask(""));
      [...before, ...lasting].forEach(put);
      before = own.map(([name]) => [name, env.get(name) ?? null]);
      own.forEach(put);
    },
  });
}
// The kernel says no more than "Execution failed" of code that it cannot parse, and of packages
// that it cannot get. Deno's own commands say why.
Object.defineProperty(globalThis, Symbol.for("code_interpreter.explain"), {
  value: async (source) => {
    const signal = AbortSignal.timeout(5000);
    const ask = async (args, input) => {
      const options = { args, stdin: "piped", stdout: "null", stderr: "piped", signal };
      const child = new Deno.Command(Deno.execPath(), options).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(input)).catch(() => {});
      await writer.close().catch(() => {});
      const text = new TextDecoder().decode((await child.output()).stderr);
      const [, said] = text.match(/^error: ([^]*?)\s*(?:Stack backtrace:|$(?![^]))/m) ?? [];
      return said?.replace(/file:\S*_stdin\.tsx/, "<anonymous>");
    };
    const names = source.match(/\b(?:npm|jsr):[^'"`\s]+/g) ?? [];
    const told = await Promise.all([
      ask(["fmt", "--check", "--ext", "tsx", "-"], source),
      ...[...new Set(names)].map((name) => ask(["cache", "--no-config", name], "")),
    ]);
    const said = told.find((each) => each !== undefined);
    if (said === undefined) return;
    const [, ename, evalue] = said.match(/^(?:(\w*Error): )?(.*)/);
    const traceback = said.split("\n");
    await Deno.jupyter.broadcast("error", { ename: ename ?? "Error", evalue, traceback });
  },
});
undefined;
