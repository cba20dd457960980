/** Real proxies with the settings of the documentation: finding and starting them. */

import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { blocksIn, readPage } from "./docs.ts";

/** Maximum time of a proxy to start, in milliseconds. */
const PATIENCE_MS = 20_000;

const nginx = find("nginx", "nginx-light");
const caddy = find("caddy", "caddy");
const openssl = find("openssl", "openssl");

/** Tests with nginx. Skipped visibly without it. */
export const describeNginx = nginx === undefined ? describe.skip : describe;

/** Tests with Caddy. Skipped visibly without it. */
export const describeCaddy = caddy === undefined ? describe.skip : describe;

/** Tests with nginx and TLS. Skipped visibly if a program is missing. */
export const describeTls = nginx === undefined || openssl === undefined ? describe.skip : describe;

/** Makes a certificate that nobody trusts, as `cert.pem` and `key.pem`. */
export async function makeCertificate(folder: string): Promise<void> {
  const paths = ["-keyout", `${folder}/key.pem`, "-out", `${folder}/cert.pem`];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const { success, stderr } = await new Deno.Command(openssl!, {
    args: ["req", ...kind, "-days", "1", "-subj", "/CN=localhost", ...paths],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** A program of Debian; explains how to install a missing one. */
function find(name: string, debianPackage: string): string | undefined {
  for (const folder of ["/usr/sbin", "/usr/bin", "/usr/local/bin"]) {
    try {
      if (Deno.statSync(`${folder}/${name}`).isFile) return `${folder}/${name}`;
    } catch { /* Elsewhere. */ }
  }
  const sentence =
    `Skipped: ${name} is not installed. Install it with: apt-get install -y ${debianPackage}`;
  // deno-lint-ignore no-console
  console.log(sentence);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it(`tests of proxies have ${name}`, () => {
      throw new Error(sentence);
    });
  }
  return undefined;
}

/** A text with its places and times replaced. */
export function change(
  text: string,
  changes: readonly (readonly [there: string, here: string])[],
): string {
  for (const [there, here] of changes) {
    assert(text.includes(there), `The documentation has no "${there}".`);
    text = text.replaceAll(there, here);
  }
  return text;
}

/** The nginx settings of docs/deploy.md, changed. */
export async function nginxSettings(
  changes: readonly (readonly [there: string, here: string])[],
): Promise<string> {
  const [settings] = blocksIn(await readPage("deploy.md"), "nginx") as [string];
  return change(settings, changes);
}

/**
 * Starts nginx in the foreground, and waits until it answers.
 *
 * @param from the proxy's address as the server sees it
 * @returns stops it
 */
export async function startNginx(
  folder: string,
  settings: string,
  port: number,
  from = "127.0.0.1",
): Promise<() => Promise<void>> {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  await Deno.writeTextFile(
    `${folder}/nginx.conf`,
    `daemon off;
    worker_processes 1;
    pid ${folder}/nginx.pid;
    error_log stderr;
    events { worker_connections 256; }
    http { proxy_bind ${from}; ${temporary.join(" ")} ${settings} }`,
  );
  return await startProxy(nginx!, {
    args: ["-p", folder, "-c", `${folder}/nginx.conf`, "-e", "stderr"],
  }, port);
}

/** Starts Caddy in the foreground, and waits until it answers. @returns stops it */
export async function startCaddy(
  folder: string,
  settings: string,
  port: number,
): Promise<() => Promise<void>> {
  await Deno.writeTextFile(`${folder}/Caddyfile`, settings);
  return await startProxy(caddy!, {
    args: ["run", "--config", `${folder}/Caddyfile`, "--adapter", "caddyfile"],
    env: { HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
  }, port);
}

async function startProxy(
  program: string,
  options: Deno.CommandOptions,
  port: number,
): Promise<() => Promise<void>> {
  const child = new Deno.Command(program, {
    ...options,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const end = performance.now() + PATIENCE_MS;
  let status: Deno.CommandStatus | undefined;
  child.status.then((ended) => status = ended);
  while (true) {
    try {
      using _conn = await Deno.connect({ hostname: "127.0.0.1", port });
      break;
    } catch (error) {
      if (status !== undefined) throw new Error(await stderr);
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return async () => {
    if (status !== undefined) throw new Error(`The proxy ended too early. ${await stderr}`);
    child.kill("SIGTERM");
    await child.status;
    await stderr;
  };
}
