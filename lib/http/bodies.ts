/**
 * Reads the bodies of requests.
 *
 * @module
 */

import type { Context } from "hono";
import { badRequest } from "../errors.ts";
import { withoutNulls } from "../protocol/commands.ts";

/** Whether a request says that its body is JSON. */
export function isJson(c: Context): boolean {
  return /^application\/json\s*(;|$)/i.test(c.req.header("content-type") ?? "");
}

/**
 * Reads a body as text.
 *
 * @throws {ChatError} `bad_request` if it is not UTF-8
 */
export async function readText(c: Context): Promise<string> {
  const bytes = await c.req.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw badRequest("The body must be UTF-8 text.");
  }
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
