/** The well-known terminal client, as people use it. */

/** Maximum wait for an expected line, in milliseconds. */
const PATIENCE_MS = 20_000;

const WSCAT = "npm:wscat@6.1.0";

/** A running wscat: lines in, lines out. */
export class Wscat implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  constructor(url: string) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "-q", "--no-config", "--no-lock", WSCAT, "-c", url],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#stdin = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async send(line: string): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`${line}\n`));
  }

  /** The next line, without the prompt that wscat shows after a typed line. */
  async nextLine(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const timer = setTimeout(() => this.#process.kill(), PATIENCE_MS);
      const { value, done } = await this.#lines.read();
      clearTimeout(timer);
      if (done) throw new Error("wscat has ended, or printed nothing for too long.");
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return line.replace(/^(> )+/, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close();
    await this.#process.status;
    await this.#lines.cancel();
  }
}
