/**
 * Reads the bodies of requests.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Context } from "hono";
import { badRequest, ChatError } from "../errors.ts";
import { withoutNulls } from "../protocol/commands.ts";

/** Maximum bytes of a request's body. */
const MAX_BODY_BYTES = 64 * 1024;

/** Whether a request says that its body is JSON. */
export function isJson(c: Context): boolean {
  return /^application\/json\s*(;|$)/i.test(c.req.header("content-type") ?? "");
}

/**
 * Reads a body as text.
 *
 * @throws {ChatError} `too_big` beyond 64 KiB, `bad_request` if it is not UTF-8 or incomplete
 */
export async function readText({ req: { raw } }: Context): Promise<string> {
  const { headers } = raw;
  // Deno 2.5 accepts a body in chunks that is longer than its `content-length` (RFC 9112, section
  // 6.3).
  const length = headers.has("transfer-encoding") ? null : headers.get("content-length");
  if (Number(length) > MAX_BODY_BYTES) throw tooBig();
  try {
    const bytes = length === null ? await readPart(raw.body) : await raw.arrayBuffer();
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof ChatError) throw error;
    throw badRequest("The body must be complete, and UTF-8 text.");
  }
}

/** Reads a body of unknown length, up to the maximum. */
async function readPart(body: ReadableStream<Uint8Array> | null): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body ?? []) {
    size += part.length;
    if (size > MAX_BODY_BYTES) throw tooBig();
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function tooBig(): ChatError {
  return new ChatError("too_big", `A request may have at most ${MAX_BODY_BYTES} bytes.`);
}

/** Reads the JSON object in a body. @throws {ChatError} `bad_request` */
export async function readObject(c: Context): Promise<Record<string, unknown>> {
  // A form on another site cannot send this type (Fetch, section "CORS-safelisted request-header").
  if (!isJson(c)) throw badRequest("The content-type must be application/json.");
  return parseObject(await readText(c));
}

/** The JSON object in a text, without the fields that are `null`. @throws {ChatError} `bad_request` */
export function parseObject(text: string): Record<string, unknown> {
  const value = parseJson(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badRequest("The body must be a JSON object.");
  }
  return withoutNulls(value as Record<string, unknown>);
}

/** The value of a JSON text; `undefined` if the text is malformed. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
